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

from abo_vqa.core.engine.work import RunMap
from abo_vqa.core.errors import UserError
from abo_vqa.data.hash_search import close_pairs
from abo_vqa.data.key_columns import numbered_texts
from abo_vqa.data.similarity import Pairs, SimilarityGraph, graph_of_pairs

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

_HASH = re.compile("[0-9a-fA-F]{16}")
_BRIGHTNESS = np.uint64(1 << 63)  # the bit of frequency 0


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
    return np.frombuffer(bytes.fromhex("".join(values)), dtype=">u8").astype(np.uint64)


def _distinct_bits(hashes: pd.Series) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """[n] the number of each row's hash, -1 if unknown, and [k] the hashes by number."""
    codes, names = numbered_texts(hashes)
    known = names != ""
    numbers = np.append(np.where(known, np.cumsum(known) - 1, -1), -1)
    return numbers[codes], hash_bits(names[known].tolist())


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
    codes, bits = _distinct_bits(hashes)
    return np.append(_is_plain(bits), False)[codes]


def _is_plain(bits: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """[k] whether a hash has no content."""
    plain: NDArray[np.bool_] = (bits & ~_BRIGHTNESS) == 0
    return plain


def hash_graph(hashes: pd.Series, distance: int, run: RunMap = map) -> SimilarityGraph:
    """Compare all hashes of a table.

    Nodes are the distinct hashes in ascending order, so that the order of rows doesn't matter.
    Hashes without content are no nodes: they make nothing a near-duplicate.

    Args:
        hashes: [n] hex digits, "" if unknown.
        distance: the maximum number of different bits, of 64.
        run: deals the parts of the search, see `hash_search.close_pairs`.

    Raises:
        UserError: a hash isn't 16 hex digits, or the distance is so large that nearly all images
            are near-duplicates.
    """
    codes, known = _distinct_bits(hashes)
    content = ~_is_plain(known)
    bits, places = np.unique(known[content], return_inverse=True)  # digits may be capitals
    node_of = np.full(len(known) + 1, -1, dtype=np.int64)
    node_of[:-1][content] = places

    def search(limit: int) -> Iterator[Pairs]:
        return close_pairs(bits, distance, run=run, limit=limit)

    return graph_of_pairs(node_of[codes], len(bits), search, f"a distance of {distance} bits")
