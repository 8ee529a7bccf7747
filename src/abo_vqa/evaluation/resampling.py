"""Resampling of clusters: how often each is drawn, and the totals of what is drawn.

A resample's draws follow the one's before it in one generator's sequence, so no block's or chunk's
size changes them. Totals are added up over chunks of clusters whose counts stay in the processor's
cache: what a cluster takes then doesn't depend on how many there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array

from abo_vqa.core.progress import progress_bar

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]
    Counts = NDArray[np.uint8]

BLOCK = 256  # resamples at a time: bounds memory, doesn't change results
CHUNK = 1024  # clusters at a time: a block of their counts, as numbers to multiply, takes 1 to 2 MB
_CELLS = 64_000_000  # and at most this many draws are kept, a byte each
_DRAWS = 50_000  # and this many are drawn at a time, of several resamples or a part of one
_EXACT = 2**24  # up to here single precision has every whole number
_QUIET_S = 5.0  # before a bar appears
_MOST = 255  # a cluster's count in a byte; drawing one more often has a chance below 1e-500


def blocks(resamples: int, groups: int) -> Iterator[slice]:
    """Divide the resamples of `groups` clusters into blocks that fit into memory.

    Args:
        resamples: number of resamples in all.
        groups: number of clusters.

    Yields:
        Consecutive slices of range(resamples).
    """
    size = max(1, min(BLOCK, _CELLS // max(1, groups)))
    for start in range(0, resamples, size):
        yield slice(start, min(start + size, resamples))


def drawn_counts(groups: int, resamples: int, seed: int) -> Iterator[tuple[slice, Counts]]:
    """Draw clusters with replacement, as many as there are, again and again.

    Args:
        groups: G, the number of clusters.
        resamples: how often.
        seed: seed of the random generator.

    Yields:
        A block of resamples, and how often each of them has each cluster: [rows, G].
    """
    rng = np.random.default_rng(seed)
    for block in _with_progress(blocks(resamples, groups), resamples):
        counts = np.zeros((block.stop - block.start, groups), dtype=np.uint8)
        for rows, columns in _pieces(*counts.shape):
            part = counts[rows]
            drawn = rng.integers(0, groups, size=(len(part), columns.stop - columns.start))
            drawn += groups * np.arange(len(part))[:, None]
            np.add.at(part.reshape(-1), drawn.ravel(), np.uint8(1))
        yield block, counts


def drawn_signs(groups: int, resamples: int, seed: int) -> Iterator[NDArray[np.int8]]:
    """Draw a sign for each cluster, again and again.

    Args:
        groups: G, the number of clusters.
        resamples: how often.
        seed: seed of the random generator.

    Yields:
        Blocks [rows, G] of 1 and -1.
    """
    rng = np.random.default_rng(seed)
    for block in _with_progress(blocks(resamples, groups), resamples):
        signs = np.empty((block.stop - block.start, groups), dtype=np.int8)
        for piece in _pieces(*signs.shape):
            signs[piece] = rng.integers(0, 2, size=signs[piece].shape)
        signs *= 2
        signs -= 1
        yield signs


def _with_progress(parts: Iterator[slice], resamples: int) -> Iterator[slice]:
    """The blocks, with a bar if they take long."""
    with progress_bar(
        resamples, desc="resampling", unit="resample", delay=_QUIET_S, leave=False
    ) as bar:
        for part in parts:
            yield part
            bar.update(part.stop - part.start)


def _pieces(rows: int, groups: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of a table in the order of its cells, as many as the cache holds draws."""
    step = max(1, _DRAWS // max(1, groups))
    for start in range(0, rows, step):
        for column in range(0, groups, _DRAWS):
            yield (
                slice(start, min(start + step, rows)),
                slice(column, min(column + _DRAWS, groups)),
            )


def drawn_totals(factors: Counts | NDArray[np.int8], sums: Floats) -> Floats:
    """Add up what clusters add, each as often as it was drawn, or with its sign.

    Args:
        factors: [rows, G] counts or signs.
        sums: [G, M], what each cluster adds.

    Returns:
        [rows, M].
    """
    totals = np.zeros((len(factors), sums.shape[1]))
    for start in range(0, len(sums), CHUNK):
        chunk = slice(start, start + CHUNK)
        totals += factors[:, chunk].astype(np.float64) @ sums[chunk]
    return totals


class SliceSums:
    """What each cluster adds to the sums within slices of the rows.

    A row is in few of the slices, so most clusters add nothing to most of them: the table is
    sparse, and hundreds of small slices cost what a few large ones do. Sums of whole numbers are
    added up in single precision where it has all of them.
    """

    def __init__(
        self, values: Floats, slices: Sequence[Integers], clusters: Integers, groups: int
    ) -> None:
        """Add up within clusters.

        Args:
            values: [n, M], without NaN.
            slices: K of them, each the positions of its rows.
            clusters: [n], the number of each row's image.
            groups: G, the number of clusters.
        """
        self._shape = (1 + values.shape[1], len(slices))
        sizes = [len(rows) for rows in slices]
        rows = np.concatenate([np.empty(0, dtype=np.int64), *slices])
        inside = np.repeat(np.arange(len(slices), dtype=np.int32), sizes)
        clusters = clusters.astype(np.int32)  # a sparse table's positions, in half the memory
        order = np.argsort(clusters[rows], kind="stable")
        rows, inside = rows[order], inside[order]
        members = clusters[rows]
        del order
        bounds = np.searchsorted(members, np.arange(0, groups + CHUNK, CHUNK))
        self._chunks = []
        for number, (start, stop) in enumerate(pairwise(bounds)):
            part = slice(start, stop)
            added = np.column_stack([np.ones(stop - start), values[rows[part]]])
            at, column = np.nonzero(added)
            lines = column.astype(np.int32) * np.int32(len(slices)) + inside[part][at]
            position = members[part][at] - np.int32(number * CHUNK)
            shape = (self._shape[0] * self._shape[1], min(CHUNK, groups - number * CHUNK))
            self._chunks.append(_compact(csr_array((added[at, column], (lines, position)), shape)))

    def totals(self, counts: Counts) -> Floats:
        """Add up over the clusters drawn.

        Args:
            counts: [rows, G], how often each resample has each cluster.

        Returns:
            [1 + M, K, rows]: the number of each slice's rows, then the sums of the M columns.
        """
        totals = np.zeros((self._shape[0] * self._shape[1], len(counts)))
        for number, chunk in enumerate(self._chunks):
            factors = counts[:, number * CHUNK : (number + 1) * CHUNK].T
            totals += chunk @ np.ascontiguousarray(factors, dtype=chunk.dtype)
        return totals.reshape(*self._shape, len(counts))


def _compact(sums: csr_array) -> csr_array:
    """The sums in single precision if it has all totals of them, whatever is drawn."""
    whole = np.array_equal(sums.data, np.rint(sums.data))
    if whole and abs(sums).sum(axis=1).max(initial=0) * _MOST < _EXACT:
        return sums.astype(np.float32)
    return sums
