"""Search for all pairs of hashes within a Hamming distance, without comparing all pairs.

Multi-index hashing (Norouzi, Punjani & Fleet, "Fast search in Hamming space with multi-index
hashing", CVPR 2012; the pigeonhole principle): cut the 64 bits into m blocks. Two hashes that
differ in at most d bits differ in at most d blocks, so they agree in at least m - d. For each
choice of m - d blocks the hashes are sorted by these blocks, and only those that agree in them are
compared: m = 6 and d = 4 take 15 tables whose keys have 21 or 22 bits. No pair is lost, and each is
found once: by the table of the first m - d blocks in which its hashes agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from math import comb, log2
from typing import TYPE_CHECKING

import numpy as np

from abo_vqa.core.engine.work import RunMap
from abo_vqa.data.similarity import Pairs

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BITS = 64
_STRIDE = 37  # deals neighbouring frequencies, which go together, to different blocks
_MAX_EXTRA_BLOCKS = 6  # beyond the distance; more would take tables by the hundred
_SAMPLE = 1 << 14  # hashes by which the number of blocks is chosen
# Nanoseconds, on one core: of a pair in a tile, of a pair in a bucket, of a hash's step in a sort.
_TILE_PAIR, _BUCKET_PAIR, _SORT_STEP = 0.7, 7.0, 2.5
_TILE = (64, 4096)  # hashes compared at a time: the differences stay in the processor's cache
_CHUNK = 1 << 17  # pairs of small buckets compared at a time
_SMALL = 64  # hashes in a bucket from which on tiles are faster than lists of pairs
_STRIPS = 64  # parts of a search without blocks


@dataclass(frozen=True)
class SearchPart:
    """The part of a search that one table of buckets does, or a share of its rows.

    Attributes:
        distance: the maximum number of different bits.
        key: the bits by which hashes are put into buckets; 0 for a single bucket.
        differing: sets of bits in each of which a pair differs; another table has the other pairs.
        strip: which strips of a large bucket are compared: this one ...
        strips: ... of so many, in turn.
        limit: the number of pairs beyond which the search stops early.
    """

    distance: int
    key: int
    differing: tuple[int, ...] = ()
    strip: int = 0
    strips: int = 1
    limit: int | None = None


def close_pairs(
    bits: NDArray[np.uint64],
    distance: int,
    *,
    run: RunMap = map,
    limit: int | None = None,
) -> Iterator[Pairs]:
    """Find the pairs of hashes within a Hamming distance of each other.

    Args:
        bits: [n] hashes.
        distance: the maximum number of different bits.
        run: calls a function with each part, as `map` does; it may deal them to workers.
        limit: the number of pairs beyond which a part may stop, for want of use.

    Yields:
        positions (i, j) of pairs, each once, in no particular order; no hash with itself.
    """
    parts = plan_search(bits, distance, limit)
    yield from run(partial(search_part, bits), parts)


def plan_search(
    bits: NDArray[np.uint64], distance: int, limit: int | None = None
) -> list[SearchPart]:
    """Choose the tables of a search, by what they would cost.

    Hashes of images are far from uniform: some bits hardly vary, and many images look the same. So
    a sample tells how many pairs fall into one bucket. Where that saves nothing (few hashes, or a
    large distance), all are one bucket.

    Args:
        bits: [n] hashes.
        distance: the maximum number of different bits.
        limit: see `SearchPart`.

    Returns:
        parts that find every pair once between them.
    """
    count = len(bits)
    best, least = [SearchPart(distance, 0, limit=limit)], _TILE_PAIR * count * (count - 1) / 2
    if count <= _SMALL:
        return best
    chosen = np.random.RandomState(0).permutation(count)[:_SAMPLE]
    sample, scale = bits[chosen], (count / max(1, len(chosen))) ** 2
    for blocks in range(distance + 1, min(distance + _MAX_EXTRA_BLOCKS, _BITS) + 1):
        sorting = comb(blocks, distance) * _SORT_STEP * count * log2(count + 1)
        if sorting >= least:
            break  # and with more blocks there are more tables to sort
        parts = _tables(blocks, distance, limit)
        pairs = scale * sum(_pairs_in_buckets(sample, part.key) for part in parts)
        if sorting + _BUCKET_PAIR * pairs < least:
            best, least = parts, sorting + _BUCKET_PAIR * pairs
    if best[0].key or count <= _TILE[1]:
        return best
    return [SearchPart(distance, 0, (), strip, _STRIPS, limit) for strip in range(_STRIPS)]


def _tables(blocks: int, distance: int, limit: int | None) -> list[SearchPart]:
    """A part for each choice of the blocks in which a pair agrees first."""
    places = np.array_split(np.arange(_BITS) * _STRIDE % _BITS, blocks)
    masks = [sum(1 << int(place) for place in block) for block in places]
    parts = []
    for equal in combinations(range(blocks), blocks - distance):
        differing = tuple(masks[b] for b in range(equal[-1]) if b not in equal)
        parts.append(SearchPart(distance, sum(masks[b] for b in equal), differing, limit=limit))
    return parts


def _pairs_in_buckets(bits: NDArray[np.uint64], key: int) -> int:
    """How many pairs of hashes have the same key."""
    keys = np.sort(bits & np.uint64(key))
    sizes = np.diff(_run_starts(keys))
    return int((sizes * (sizes - 1)).sum()) // 2


def _run_starts(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Where each run of equal keys starts, and the end of the last."""
    changes = np.flatnonzero(keys[1:] != keys[:-1]) + 1
    return np.concatenate([[0], changes, [len(keys)]])


def search_part(bits: NDArray[np.uint64], part: SearchPart) -> Pairs:
    """Find the pairs of one part of a search; a pure function, for any process.

    Args:
        bits: [n] hashes.
        part: of the plan.

    Returns:
        positions (i, j) of pairs.
    """
    if part.key:
        order = np.argsort(bits & np.uint64(part.key))
        ordered = bits[order]
        starts = _run_starts(ordered & np.uint64(part.key))
    else:
        order, ordered = np.arange(len(bits)), bits
        starts = np.array([0, len(bits)])
    rows, columns, total = [order[:0]], [order[:0]], 0
    for i, j in _close_in_buckets(ordered, starts, part):
        rows.append(order[i])
        columns.append(order[j])
        total += len(i)
        if part.limit is not None and total > part.limit:
            break
    return np.concatenate(rows), np.concatenate(columns)


def _close_in_buckets(
    bits: NDArray[np.uint64], starts: NDArray[np.int64], part: SearchPart
) -> Iterator[Pairs]:
    """Close pairs within the buckets of sorted hashes, some at a time."""
    sizes = np.diff(starts)
    for bucket in np.flatnonzero(sizes > _SMALL).tolist():
        start, end = int(starts[bucket]), int(starts[bucket + 1])
        for i, j in _close_in_tiles(bits[start:end], part):
            yield from _own_pairs(bits, i + start, j + start, part)
    small = (sizes > 1) & (sizes <= _SMALL)
    # Each hash is compared with those behind it in its bucket.
    behind = np.repeat(starts[1:][small], sizes[small])
    first = np.arange(len(behind)) + np.repeat(
        starts[:-1][small] - np.cumsum(sizes[small]) + sizes[small], sizes[small]
    )
    counts = behind - first - 1
    ends = np.cumsum(counts)
    cuts = np.searchsorted(ends, np.arange(_CHUNK, int(ends[-1:].sum()), _CHUNK))
    for chunk in np.split(np.arange(len(first)), cuts):
        number = counts[chunk]
        i = np.repeat(first[chunk], number)
        j = i + 1 + np.arange(len(i)) - np.repeat(np.cumsum(number) - number, number)
        close = np.bitwise_count(bits[i] ^ bits[j]) <= part.distance
        yield from _own_pairs(bits, i[close], j[close], part)


def _close_in_tiles(bits: NDArray[np.uint64], part: SearchPart) -> Iterator[Pairs]:
    """Close pairs of a large bucket: all are compared, a tile at a time."""
    height, width = _TILE
    for top in range(height * part.strip, len(bits), height * part.strips):
        rows = bits[top : top + height, None]
        for start in range(top, len(bits), width):
            apart = np.bitwise_count(rows ^ bits[None, start : start + width])
            # Flat: numpy's nonzero of two dimensions takes three times as long as all the rest.
            flat = np.flatnonzero((apart <= part.distance).ravel())
            i, j = np.divmod(flat, apart.shape[1])
            i, j = i + top, j + start
            yield i[i < j], j[i < j]


def _own_pairs(
    bits: NDArray[np.uint64], i: NDArray[np.int64], j: NDArray[np.int64], part: SearchPart
) -> Iterator[Pairs]:
    """The pairs that no other table has."""
    apart = bits[i] ^ bits[j]
    own = np.ones(len(i), dtype=np.bool_)
    for mask in part.differing:
        own &= (apart & np.uint64(mask)) != 0
    if own.any():
        yield i[own], j[own]
