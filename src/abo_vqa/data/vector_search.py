"""Search for all pairs of vectors with a large cosine: by comparing all, or those near one pivot.

Comparing all pairs of n images takes n² steps. Beyond `EXHAUSTIVE` images some of them, drawn at
random, are pivots, and each image belongs to its `PIVOTS` nearest: only images with a pivot in
common are compared. With √n pivots that takes about n^1.5 steps. It is permutation-based indexing
(Chávez, Figueroa & Navarro, "Effective proximity retrieval by ordering permutations", TPAMI 2008)
with the shortest of permutations. No pair is wrong, and few are missed: docs/benchmarks.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from abo_vqa.core.engine.work import RunMap
from abo_vqa.data.similarity import Pairs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Integers = NDArray[np.int64]

EXHAUSTIVE = 50_000
"""Up to so many images all pairs are compared."""
PIVOTS = 4
"""How many pivots an image belongs to; with 3, up to 0.3% of the pairs were missed."""

_TILE = 2048  # vectors compared with as many others at a time: 16 MB of cosines
_DEALT = 16_384  # images whose pivots are looked up, and whose pairs are compared, at a time


def alike_vectors(
    units: Floats, cosine: float, *, run: RunMap = map, limit: int | None = None
) -> Iterator[Pairs]:
    """Find the pairs of vectors with a cosine of at least a threshold.

    Args:
        units: [n, V] vectors of unit length.
        cosine: the threshold.
        run: calls a function with each part, as `map` does; it may deal them to workers.
        limit: the number of pairs beyond which a part may stop, for want of use.

    Yields:
        positions (i, j) of pairs, each once, in no particular order; no vector with itself.
    """
    if len(units) <= EXHAUSTIVE:
        yield from compare_all(units, cosine, run)
        return
    starts = range(0, len(units), _DEALT)
    pivots = units[draw_pivots(len(units))]
    near = np.concatenate(list(run(partial(_nearest_pivots, units, pivots), starts)))
    bounds = np.linspace(0, len(pivots), len(starts) * PIVOTS + 1).astype(int).tolist()
    shares = list(pairwise(bounds))
    yield from run(partial(_compare_members, units, near, cosine, limit), shares)


def compare_all(units: Floats, cosine: float, run: RunMap = map) -> Iterator[Pairs]:
    """Find the pairs by comparing all; see `alike_vectors`."""
    return iter(run(partial(_compare_strip, units, cosine), range(0, len(units), _TILE)))


def draw_pivots(count: int) -> Integers:
    """Return the positions of the vectors that are pivots, of so many."""
    size = int(PIVOTS * np.sqrt(count))  # either half of the work takes as long
    return np.sort(np.random.RandomState(0).permutation(count)[:size])


def _nearest_pivots(units: Floats, pivots: Floats, start: int) -> NDArray[np.int32]:
    """[k, PIVOTS] the pivots of some vectors, in ascending order."""
    end = min(start + _DEALT, len(units))
    near = np.empty((end - start, PIVOTS), dtype=np.int32)
    for top in range(start, end, _TILE):
        cosines = units[top : min(top + _TILE, end)] @ pivots.T
        part = np.argpartition(-cosines, PIVOTS - 1, axis=1)[:, :PIVOTS]
        near[top - start : top - start + len(part)] = np.sort(part, axis=1)
    return near


def _compare_members(
    units: Floats,
    near: NDArray[np.int32],
    cosine: float,
    limit: int | None,
    share: tuple[int, int],
) -> Pairs:
    """The pairs whose first common pivot is one of a share: the first, and the one behind."""
    first, behind = share
    flat = near.ravel()
    entries = np.flatnonzero((flat >= first) & (flat < behind))
    entries = entries[np.argsort(flat[entries], kind="stable")]
    ends = np.searchsorted(flat[entries], np.arange(first, behind + 1))
    results, total = [_NONE], 0
    for pivot, (start, end) in enumerate(pairwise(ends), first):
        members = entries[start:end] // PIVOTS
        for i, j in _alike_in(units[members], cosine):
            i, j = members[i], members[j]
            own = _first_common(near[i], near[j]) == pivot
            results.append((i[own], j[own]))
            total += int(own.sum())
        if limit is not None and total > limit:
            break
    rows, columns = zip(*results, strict=True)
    return np.concatenate(rows), np.concatenate(columns)


_NONE: Pairs = (np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))


def _first_common(one: NDArray[np.int32], other: NDArray[np.int32]) -> NDArray[np.int32]:
    """[k] the smallest pivot of both; each pair has one."""
    none = np.iinfo(np.int32).max
    smallest: NDArray[np.int32] = np.full(len(one), none, dtype=np.int32)
    for a in one.T:
        common = (a[:, None] == other).any(axis=1)
        np.minimum(smallest, np.where(common, a, none), out=smallest)
    return smallest


def _alike_in(units: Floats, cosine: float) -> Iterator[Pairs]:
    """Compare all pairs of vectors."""
    for top in range(0, len(units), _TILE):
        yield _compare_strip(units, cosine, top)


def _compare_strip(units: Floats, cosine: float, top: int) -> Pairs:
    """The pairs of a strip of vectors with those of it, and those behind it.

    Only half of the tiles are computed: the product of two tiles isn't the same to the last bit in
    both orders.
    """
    results = [_NONE]
    rows = units[top : top + _TILE]
    for start in range(top, len(units), _TILE):
        close = rows @ units[start : start + _TILE].T >= cosine
        if start == top:
            close = np.triu(close, 1)
        i, j = np.divmod(np.flatnonzero(close.ravel()), close.shape[1])
        results.append((i + top, j + start))
    first, second = zip(*results, strict=True)
    return np.concatenate(first), np.concatenate(second)
