"""Assign bundles of groups to train and test: size first, then product types, then near-duplicates.

A component of near-duplicates that goes to one side as a whole separates none of them, and most
images are in small components. So the test set is drawn from these, by product type. Pieces of
large components, which leave near-duplicates of test images in train, are taken only where a type,
or the whole, would otherwise be too small, the cheapest first.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_matrix

from abo_vqa.data.similarity import SimilarityGraph, csr_columns

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TOLERANCE = 0.01  # of the target: what a type, or the whole, may lack without cutting a component
_TYPE_WEIGHT = 1.01  # of a type's row against any row: a full side still exchanges types
_UNSURE = 1e-3  # rows: far more than rounding makes of sums of whole rows and shares of them
_SUMMED_BY_NUMPY = 8  # numbers, from which on it adds them in another order
_STEP = 1 << 12  # bundles that are looked through at a time
_MAX_ROUNDS = 5  # of exchanges; two or three suffice


@dataclass(frozen=True)
class Bundles:
    """What is assigned: whole bundles to the smaller side, the rest to the larger one.

    Attributes:
        rows: [b] rows of each bundle.
        types: [b, t] rows of each bundle by product type.
        clean: [b] True where no image has a near-duplicate in another bundle.
    """

    rows: NDArray[np.int64]
    types: csr_matrix
    clean: NDArray[np.bool_]


class Exposure:
    """How many images of one side have near-duplicates on the other, while bundles are taken.

    Args:
        bundles: [p] the bundle of each image.
        graph: of the images.
    """

    def __init__(self, bundles: NDArray[np.int64], graph: SimilarityGraph) -> None:
        indices, count = graph.nodes, graph.adjacency.shape[0]
        known = indices >= 0
        shape = (int(bundles.max(initial=-1)) + 1, count)
        ones = np.ones(int(known.sum()), dtype=np.int64)
        # [b, k] images of a bundle at a node; [k, b] and [b, k] bundles near a node
        self._own = csr_matrix((ones, (bundles[known], indices[known])), shape=shape)
        self._own.sum_duplicates()
        self._near = (graph.adjacency @ graph.incidence(bundles).T).tocsr()
        self._around = self._near.T.tocsr()
        self._around.sort_indices()
        # [k] bundles near a node that aren't taken; images taken
        self._others = np.diff(self._near.indptr).astype(np.int64)
        self._inside = np.zeros(count, dtype=np.int64)
        self.taken = np.zeros(shape[0], dtype=bool)

    def clean(self) -> NDArray[np.bool_]:
        """Return [b] True where no image of a bundle has a near-duplicate in another."""
        exposed: NDArray[np.int64] = self._own @ (self._others > 1).astype(np.int64)
        return np.equal(exposed, 0)

    def cost(self, bundle: int) -> int:
        """Return how many more images have near-duplicates on the other side if it is taken.

        Args:
            bundle: its number.
        """
        span = slice(self._own.indptr[bundle], self._own.indptr[bundle + 1])
        added = self._own.data[span][self._others[self._own.indices[span]] > 1].sum()
        around = csr_columns(self._around, np.array([bundle]))
        return int(added - self._inside[around[self._others[around] == 1]].sum())

    def take(self, bundle: int) -> NDArray[np.int64]:
        """Take a bundle.

        Args:
            bundle: its number.

        Returns:
            the bundles whose cost this changes.
        """
        span = slice(self._own.indptr[bundle], self._own.indptr[bundle + 1])
        around = csr_columns(self._around, np.array([bundle]))
        self._inside[self._own.indices[span]] += self._own.data[span]
        self._others[around] -= 1
        self.taken[bundle] = True
        return np.unique(csr_columns(self._near, around))


class _Side:
    """The smaller side, filled bundle by bundle.

    Python's numbers and lists, because a catalogue has hundreds of thousands of bundles, most of
    one product type: numpy's operations on arrays of one number take ten times as long.

    Attributes:
        target: rows that it should have.
        missing: rows that it lacks; negative if it has too many.

    Args:
        bundles: all bundles.
        share: of the rows, and of every type's rows, that the side should have; at most 1/2.
    """

    def __init__(self, bundles: Bundles, share: float) -> None:
        self._bundles = bundles
        self._rows: list[int] = bundles.rows.tolist()
        self._taken = [False] * len(self._rows)
        self._total = sum(self._rows)
        self.target = share * self._total
        self.missing = self.target
        types = bundles.types
        by_type = share * np.asarray(types.sum(axis=0)).ravel()
        self._missing_types: list[float] = by_type.tolist()
        self._starts: list[int] = types.indptr.tolist()
        self._types: list[int] = types.indices.tolist()
        self._counts: list[int] = types.data.tolist()

    @property
    def taken(self) -> NDArray[np.bool_]:
        """[b] True for the bundles on this side."""
        return np.array(self._taken, dtype=np.bool_)

    def gain(self, bundle: int, by_type: bool, sign: int = 1) -> float:
        """By how many rows taking a bundle brings the side closer to its target.

        Args:
            bundle: its number.
            by_type: count the targets of product types as well.
            sign: -1 for giving the bundle back.
        """
        gain: float = abs(self.missing) - abs(self.missing - sign * self._rows[bundle])
        return gain + _TYPE_WEIGHT * self.type_gain(bundle, sign) if by_type else gain

    def type_gain(self, bundle: int, sign: int = 1) -> float:
        """The gain in the product types alone."""
        gains: list[float] = []
        for place in range(self._starts[bundle], self._starts[bundle + 1]):
            missing: float = self._missing_types[self._types[place]]
            gains.append(abs(missing) - abs(missing - sign * self._counts[place]))
        if len(gains) >= _SUMMED_BY_NUMPY:
            return float(np.sum(gains))
        total = 0.0
        for gain in gains:  # not Python's sum, which compensates for rounding since 3.12
            total += gain
        return total

    def take(self, bundle: int, sign: int = 1) -> None:
        """Take a bundle, or give it back (sign -1)."""
        self._taken[bundle] = sign > 0
        self.missing -= sign * self._rows[bundle]
        for place in range(self._starts[bundle], self._starts[bundle + 1]):
            self._missing_types[self._types[place]] -= sign * self._counts[place]

    def take_useful(self, offered: NDArray[np.int64], by_type: bool) -> None:
        """Take the bundles that bring a gain; one pass, because the side only gets fuller."""
        for bundle in self._likely(offered[~self.taken[offered]], by_type):
            if self._rows[bundle] <= self.target and self.gain(bundle, by_type) > 0:
                self.take(bundle)

    def _likely(self, offered: NDArray[np.int64], by_type: bool, sign: int = 1) -> Iterator[int]:
        """Bundles that may bring a gain, while the side only gets fuller (sign -1: emptier).

        Most of a large catalogue's bundles stop being useful soon, of which numpy is sure at once.
        """
        for start in range(0, len(offered), _STEP):
            some = offered[start : start + _STEP]
            yield from some[self._rough_gain(some, by_type, sign) > -_UNSURE].tolist()

    def _rough_gain(
        self, bundles: NDArray[np.int64], by_type: bool, sign: int = 1
    ) -> NDArray[np.float64]:
        """[k] `gain` of some bundles, but for rounding.

        What is negative stays so while the side only gets fuller; with sign -1, emptier.
        """
        rough: NDArray[np.float64] = abs(self.missing) - np.abs(
            self.missing - sign * self._bundles.rows[bundles]
        )
        if by_type and len(bundles):
            types = self._bundles.types[bundles]
            missing = np.array(self._missing_types)[types.indices]
            gains = np.abs(missing) - np.abs(missing - sign * types.data)
            rough = rough + _TYPE_WEIGHT * np.add.reduceat(gains, types.indptr[:-1])
        return rough

    def exchange(self, offered: NDArray[np.int64]) -> None:
        """Give back bundles of types that are too frequent, and take others for them.

        Args:
            offered: clean bundles, so that no exposure changes.
        """
        for _ in range(_MAX_ROUNDS):
            taken = offered[self.taken[offered]]
            rough = self._rough_gain(taken, True, -1)
            unsure = np.flatnonzero(np.abs(rough) <= _UNSURE)
            useful = rough > _UNSURE
            useful[unsure] = [self.gain(b, True, -1) > 0 for b in taken[unsure].tolist()]
            surplus = taken[useful]
            for bundle in self._likely(surplus, True, -1):
                if self.gain(bundle, True, -1) > 0:
                    self.take(bundle, -1)
            if not len(surplus):
                return
            self.take_useful(offered, by_type=True)

    def lacks(self, by_type: bool, bundle: int | None = None) -> bool:
        """Whether the side, or a type (of the bundle, if given), lacks more than the tolerance."""
        tolerance = _TOLERANCE * self.target
        if self.missing > tolerance:
            return True
        if not by_type:
            return False
        missing = self._missing_types
        if bundle is not None:
            own = self._types[self._starts[bundle] : self._starts[bundle + 1]]
            missing = [missing[number] for number in own]
        return bool(max(missing, default=0.0) > tolerance)

    def fill(self, offered: NDArray[np.int64]) -> None:
        """As a last resort, take bundles larger than the target, smallest first; never all."""
        smallest = sorted(offered.tolist(), key=lambda b: self._rows[b])
        for bundle in smallest:
            closer = self.lacks(by_type=False) and self.gain(bundle, by_type=False) > 0
            left = self._total - (self.target - self.missing) - self._rows[bundle]
            if not self._taken[bundle] and closer and left > 0:
                self.take(bundle)
        if not any(self._taken):
            self.take(smallest[0])


def assign_bundles(
    bundles: Bundles, exposure: Exposure | None, share: float, seed: int
) -> NDArray[np.bool_]:
    """Choose the bundles of the test set.

    Args:
        bundles: at least two, in an order that doesn't depend on the table's.
        exposure: of the images; None where nothing is compared (all bundles are clean).
        share: of the rows that the test set should have.
        seed: random state.

    Returns:
        [b] True for the bundles that go to test.
    """
    smaller = min(share, 1 - share)
    side = _Side(bundles, smaller)
    first, rest = _stratified_order(bundles, smaller, seed)
    clean, cut = np.concatenate([first, rest]), np.flatnonzero(~bundles.clean)
    for by_type in (True, False):
        if by_type or side.lacks(by_type):
            side.take_useful(first, by_type)
            side.take_useful(rest, by_type)
        if by_type:
            side.exchange(clean)
        for _ in range(_MAX_ROUNDS):  # a bundle given back for its size may hold a rare type
            if exposure is not None and side.lacks(by_type):
                _take_cheapest(side, exposure, bundles.rows, cut, by_type)
                side.exchange(clean)
    side.fill(np.concatenate([clean, cut]))
    test: NDArray[np.bool_] = side.taken if share <= 0.5 else ~side.taken
    return test


def _stratified_order(
    bundles: Bundles, share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The clean bundles in random order: first an even sample of every type, then the others.

    For a share of a fifth, the sample is every fifth bundle of those sorted by type: rare types,
    too, get their share.
    """
    # Not the newer Generator: RandomState's numbers are the same in every version of numpy.
    order = np.random.RandomState(seed).permutation(len(bundles.rows))
    order = order[bundles.clean[order]]
    main_type = np.asarray(bundles.types.argmax(axis=1)).ravel()[order]
    taken, parts = fold_ratio(share)
    sampled = np.zeros(len(order), dtype=bool)
    sampled[np.argsort(main_type, kind="stable")] = np.arange(len(order)) % parts < taken
    return order[sampled], order[~sampled]


def fold_ratio(test_size: float) -> tuple[int, int]:
    """Express a test share as (parts for test, parts in all).

    Args:
        test_size: the share.

    Returns:
        the nearest fraction with a denominator of at most 20; (1, n) for smaller shares.
    """
    share = Fraction(test_size).limit_denominator(20)
    if share in (0, 1):
        return (1, round(min(1 / test_size, 1e9))) if share == 0 else (19, 20)
    return share.numerator, share.denominator


def _take_cheapest(
    side: _Side,
    exposure: Exposure,
    rows: NDArray[np.int64],
    offered: NDArray[np.int64],
    by_type: bool,
) -> None:
    """Take bundles that separate near-duplicates, fewest per row first, while rows are lacking."""
    for bundle in np.flatnonzero(side.taken & ~exposure.taken).tolist():
        exposure.take(bundle)
    free = set(offered[~side.taken[offered]].tolist())
    price = {bundle: exposure.cost(bundle) / rows[bundle] for bundle in free}
    heap = [(value, bundle) for bundle, value in price.items()]
    heapq.heapify(heap)
    while heap and side.lacks(by_type):
        value, bundle = heapq.heappop(heap)
        if bundle not in free or value != price[bundle]:
            continue  # taken, or its price has changed since
        free.discard(bundle)
        fits = rows[bundle] <= side.target and side.lacks(by_type, bundle)
        gain = side.type_gain(bundle) if by_type else side.gain(bundle, by_type)
        if not fits or gain <= 0:
            continue  # by type the side may get too full: clean bundles are given back afterwards
        side.take(bundle)
        for other in free.intersection(exposure.take(bundle).tolist()):
            price[other] = exposure.cost(other) / rows[other]
            heapq.heappush(heap, (price[other], other))
