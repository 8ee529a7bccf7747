"""Perceptual hashes: which images of a table are near-duplicates.

Two images are near-duplicates if their 64-bit DCT hashes (Zauner, "Implementation and benchmarking
of perceptual image hash functions", 2010; `imagehash.phash`) differ in at most a given number of
bits, their Hamming distance.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from abo_vqa.core.errors import UserError
from abo_vqa.data.similarity import SimilarityGraph, graph_of_pairs

if TYPE_CHECKING:
    from numpy.typing import NDArray

_HASH = re.compile("[0-9a-fA-F]{16}")
_BRIGHTNESS = np.uint64(1 << 63)  # the bit of frequency 0
_TILE = (64, 4096)  # hashes compared at a time: the differences stay in the processor's cache


def hash_bits(values: Sequence[str]) -> NDArray[np.uint64]:
    """Parse perceptual hashes.

    Args:
        values: each 16 hex digits.

    Returns:
        [n] the hashes as integers.

    Raises:
        UserError: a value isn't 16 hex digits.
    """
    bad = next((value for value in values if not _HASH.fullmatch(value)), None)
    if bad is not None:
        raise UserError(f"phash {bad!r} isn't 16 hex digits (imagehash.phash as text).")
    return np.array([int(value, 16) for value in values], dtype=np.uint64)


def without_content(hashes: pd.Series) -> NDArray[np.bool_]:
    """Find hashes that say nothing about their image.

    A hash's bits tell which of 64 frequencies exceed their median. Those of a plain area are all
    zero, but for the first one, its brightness. Such images would be near-duplicates of each other,
    whatever their colours. An area that is only nearly plain has a hash made of noise, which is
    close to no other by chance.

    Args:
        hashes: [n] hex digits, "" if unknown.

    Returns:
        [n] whether there is a hash, and it has no content.
    """
    known = (hashes != "").to_numpy(dtype=bool)
    empty = np.zeros(len(hashes), dtype=np.bool_)
    empty[known] = (hash_bits(hashes[known].tolist()) & ~_BRIGHTNESS) == 0
    return empty


def close_pairs(
    left: NDArray[np.uint64], right: NDArray[np.uint64], distance: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Find the pairs of hashes within a Hamming distance of each other.

    All pairs are compared, a tile at a time: 76,000 hashes against themselves take 3 s.

    Args:
        left: [n] hashes.
        right: [m] hashes.
        distance: the maximum number of different bits.

    Yields:
        positions (i, j) of pairs left[i] and right[j].
    """
    height, width = _TILE
    for top in range(0, len(left), height):
        rows = left[top : top + height, None]
        for start in range(0, len(right), width):
            apart = np.bitwise_count(rows ^ right[None, start : start + width])
            # Flat: numpy's nonzero of two dimensions takes three times as long as all the rest.
            flat = np.flatnonzero((apart <= distance).ravel())
            if len(flat):
                i, j = np.divmod(flat, apart.shape[1])
                yield i + top, j + start


def hash_graph(hashes: pd.Series, distance: int) -> SimilarityGraph:
    """Compare all hashes of a table.

    Nodes are the distinct hashes in ascending order, so that the order of rows doesn't matter.
    Hashes without content are no nodes: they make nothing a near-duplicate.

    Args:
        hashes: [n] hex digits, "" if unknown.
        distance: the maximum number of different bits, of 64.

    Raises:
        UserError: a hash isn't 16 hex digits, or the distance is so large that nearly all images
            are near-duplicates.
    """
    known = ((hashes != "") & ~without_content(hashes)).to_numpy(dtype=bool)
    nodes = np.full(len(hashes), -1, dtype=np.int64)
    codes, names = pd.factorize(hashes[known].to_numpy(dtype=object))
    bits, places = np.unique(hash_bits(list(names)), return_inverse=True)
    nodes[known] = places[codes]
    setting = f"a distance of {distance} bits"
    return graph_of_pairs(nodes, len(bits), close_pairs(bits, bits, distance), setting)
