"""Dealing bundles of groups to train and test: size first, then types, then few look-alikes parted.

A component of look-alikes that goes to one side whole parts nothing, and most pictures are in small
ones. The test set is therefore drawn from these, by product type. Pieces of the large components,
which cost look-alikes left in train, are taken only where a type, or the whole, would otherwise be
short, the cheapest first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from abo_vqa.data.hashes import HashGraph, csr_columns

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

TOLERANCE = 0.01  # of the asked test rows: what a type, or the whole, may lack without a cut
_TYPES = 1.01  # weight of a type's row beside any row's: what is full is exchanged, not kept
_EXCHANGES = 5  # rounds; two or three do


def fold_ratio(test_size: float) -> tuple[int, int]:
    """A test share as (parts for test, parts in all), to the nearest fraction below 1/20."""
    share = Fraction(test_size).limit_denominator(20)
    if share in (0, 1):
        return (1, round(min(1 / test_size, 1e9))) if share == 0 else (19, 20)
    return share.numerator, share.denominator


@dataclass(frozen=True)
class Bundles:
    """What is dealt: the smaller side gets whole bundles, the larger one what is left.

    Attributes:
        rows: [b] rows of each bundle. kinds: [b, k] its rows of each product type.
        clean: [b] True where no picture has a look-alike in another bundle.
    """

    rows: NDArray[np.int64]
    kinds: csr_matrix
    clean: NDArray[np.bool_]


class _Dealer:
    """Fills one side, bundle by bundle.

    Args:
        bundles: what there is. share: of the rows (and of every type's) that is wanted, up to 1/2.
    """

    def __init__(self, bundles: Bundles, share: float) -> None:
        self.bundles, self.share = bundles, share
        self.taken = np.zeros(len(bundles.rows), dtype=bool)
        self.total = int(bundles.rows.sum())
        self.wanted = share * self.total
        self.missing = self.wanted  # rows; negative where there are too many
        self.short = share * np.asarray(bundles.kinds.sum(axis=0)).ravel()  # the same by type

    def gain(self, bundle: int, by_type: bool, sign: int = 1) -> float:
        """By how many rows taking it (or leaving it again, sign -1) brings the side, and its types,
        nearer to what is wanted."""
        gain = abs(self.missing) - abs(self.missing - sign * float(self.bundles.rows[bundle]))
        return gain + _TYPES * self.type_gain(bundle, sign) if by_type else gain

    def type_gain(self, bundle: int, sign: int = 1) -> float:
        """The same for the types alone."""
        here, counts = self.kinds_of(bundle)
        return float(np.sum(np.abs(self.short[here]) - np.abs(self.short[here] - sign * counts)))

    def kinds_of(self, bundle: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        kinds = self.bundles.kinds
        span = slice(kinds.indptr[bundle], kinds.indptr[bundle + 1])
        return kinds.indices[span], kinds.data[span]

    def take(self, bundle: int, sign: int = 1) -> None:
        here, counts = self.kinds_of(bundle)
        self.taken[bundle] = sign > 0
        self.missing -= sign * self.bundles.rows[bundle]
        self.short[here] -= sign * counts

    def offer(self, offered: Iterable[int], by_type: bool) -> None:
        """Take what fits. What doesn't fit now won't later: the side only gets fuller."""
        for bundle in offered:
            fits = self.bundles.rows[bundle] <= self.wanted
            if fits and not self.taken[bundle] and self.gain(bundle, by_type) > 0:
                self.take(bundle)

    def exchange(self, offered: NDArray[np.int64]) -> None:
        """Leave bundles of types there are too many of, for others of types that lack some.

        Args:
            offered: clean bundles, so that nobody's exposure changes.
        """
        for _ in range(_EXCHANGES):
            surplus = [b for b in offered if self.taken[b] and self.gain(b, True, -1) > 0]
            for bundle in surplus:
                if self.gain(bundle, True, -1) > 0:
                    self.take(bundle, -1)
            if not surplus:
                return
            self.offer(offered, by_type=True)

    def lacks(self, by_type: bool, bundle: int | None = None) -> bool:
        """Whether the side, or one of its types (of the bundle), lacks more than the tolerance."""
        least = TOLERANCE * self.wanted
        if self.missing > least:
            return True
        if not by_type:
            return False
        short = self.short if bundle is None else self.short[self.kinds_of(bundle)[0]]
        return bool(short.max(initial=0.0) > least)

    def fill(self, offered: NDArray[np.int64]) -> None:
        """Last resorts: bundles larger than what is wanted, the smallest first; but never all."""
        smallest = sorted(offered.tolist(), key=lambda b: self.bundles.rows[b])
        for bundle in smallest:
            nearer = self.lacks(by_type=False) and self.gain(bundle, by_type=False) > 0
            left = self.total - (self.wanted - self.missing) - self.bundles.rows[bundle]
            if not self.taken[bundle] and nearer and left > 0:
                self.take(bundle)
        if not self.taken.any():
            self.take(smallest[0])


class Exposure:
    """How many of the side's pictures have look-alikes on the other side, as bundles are taken.

    Args:
        pictures: [p] bundle of each picture. hashes: [p] its perceptual hash.
    """

    def __init__(self, pictures: NDArray[np.int64], hashes: pd.Series, graph: HashGraph) -> None:
        from scipy.sparse import csr_matrix

        numbers = graph.numbers(hashes)
        known = numbers >= 0
        shape = (int(pictures.max(initial=-1)) + 1, len(graph.bits))
        ones = np.ones(int(known.sum()), dtype=np.int64)
        # [b, h] pictures of a bundle with a hash; [h, b] and [b, h] bundles near a hash
        self.own = csr_matrix((ones, (pictures[known], numbers[known])), shape=shape)
        self.own.sum_duplicates()
        self.near = (graph.close @ graph.held(pictures, hashes).T).tocsr()
        self.around = self.near.T.tocsr()
        self.around.sort_indices()
        self.others = np.diff(self.near.indptr).astype(np.int64)  # [h] bundles near it, not taken
        self.inside = np.zeros(len(graph.bits), dtype=np.int64)  # [h] pictures taken
        self.taken = np.zeros(shape[0], dtype=bool)

    def clean(self) -> NDArray[np.bool_]:
        """[b] True where no picture of a bundle has a look-alike in another."""
        exposed: NDArray[np.int64] = self.own @ (self.others > 1).astype(np.int64)
        return np.equal(exposed, 0)

    def cost(self, bundle: int) -> int:
        """Pictures with look-alikes on the other side that taking a bundle adds (or saves)."""
        span = slice(self.own.indptr[bundle], self.own.indptr[bundle + 1])
        added = self.own.data[span][self.others[self.own.indices[span]] > 1].sum()
        around = csr_columns(self.around, np.array([bundle]))
        return int(added - self.inside[around[self.others[around] == 1]].sum())

    def take(self, bundle: int) -> NDArray[np.int64]:
        """Take a bundle; returns those whose cost this changes."""
        span = slice(self.own.indptr[bundle], self.own.indptr[bundle + 1])
        around = csr_columns(self.around, np.array([bundle]))
        self.inside[self.own.indices[span]] += self.own.data[span]
        self.others[around] -= 1
        self.taken[bundle] = True
        return np.unique(csr_columns(self.near, around))


def _by_exposure(
    dealer: _Dealer, exposure: Exposure, offered: NDArray[np.int64], by_type: bool
) -> None:
    """Take bundles that part look-alikes, fewest a row first, while something is lacking."""
    import heapq

    rows = dealer.bundles.rows
    for bundle in np.flatnonzero(dealer.taken & ~exposure.taken).tolist():
        exposure.take(bundle)
    free = set(offered[~dealer.taken[offered]].tolist())
    price = {bundle: exposure.cost(bundle) / rows[bundle] for bundle in free}
    heap = [(value, bundle) for bundle, value in price.items()]
    heapq.heapify(heap)
    while heap and dealer.lacks(by_type):
        value, bundle = heapq.heappop(heap)
        if bundle not in free or value != price[bundle]:
            continue  # taken, or priced again since
        free.discard(bundle)
        fits = rows[bundle] <= dealer.wanted and dealer.lacks(by_type, bundle)
        gain = dealer.type_gain(bundle) if by_type else dealer.gain(bundle, by_type)
        if not fits or gain <= 0:
            continue  # by type, the whole may get too full: clean bundles are left for it after
        dealer.take(bundle)
        for other in free.intersection(exposure.take(bundle).tolist()):
            price[other] = exposure.cost(other) / rows[other]
            heapq.heappush(heap, (price[other], other))


def assign_bundles(
    bundles: Bundles, exposure: Exposure | None, share: float, seed: int
) -> NDArray[np.bool_]:
    """[b] which bundles go to test.

    Args:
        bundles: at least two, in an order that has nothing to do with the table's.
        exposure: None where nothing is known of look-alikes (all bundles are clean).
        share: of the rows that is wanted in test.
    """
    small = min(share, 1 - share)
    dealer = _Dealer(bundles, small)
    first, rest = _offered_first(bundles, small, seed)
    clean, cut = np.concatenate([first, rest]), np.flatnonzero(~bundles.clean)
    for by_type in (True, False):
        if by_type or dealer.lacks(by_type):
            dealer.offer(first, by_type)
            dealer.offer(rest, by_type)
        if by_type:
            dealer.exchange(clean)
        for _ in range(_EXCHANGES):  # what is left again for the whole's sake may hold a rare type
            if exposure is not None and dealer.lacks(by_type):
                _by_exposure(dealer, exposure, cut, by_type)
                dealer.exchange(clean)
    dealer.fill(np.concatenate([clean, cut]))
    test: NDArray[np.bool_] = dealer.taken if share <= 0.5 else ~dealer.taken
    return test


def _offered_first(
    bundles: Bundles, share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The clean bundles in random order: an even sample of every type, then the others.

    Every fifth bundle (for a fifth) of those sorted by type: rare types, too, get their share.
    """
    # Not the newer Generator: RandomState's numbers are the same in every version of numpy.
    drawn = np.random.RandomState(seed).permutation(len(bundles.rows))
    drawn = drawn[bundles.clean[drawn]]
    main = np.asarray(bundles.kinds.argmax(axis=1)).ravel()[drawn]
    wanted, parts = fold_ratio(share)
    chosen = np.zeros(len(drawn), dtype=bool)
    chosen[np.argsort(main, kind="stable")] = np.arange(len(drawn)) % parts < wanted
    return drawn[chosen], drawn[~chosen]
