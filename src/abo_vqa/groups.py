"""Which rows of a VQA table belong together, so that a split can't put them on both sides.

Groups are made by equality (of the image, the picture's bytes, the product) and, for near-duplicate
pictures, by perceptual hashes within a distance. Near-duplicates are not chained: "A looks like B,
B like C, …" leads, on white backgrounds, from a lamp to a chair. A cluster here is a centre and
what lies within the distance of it, nothing further (Butina, J. Chem. Inf. Comput. Sci. 39, 1999).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from abo_vqa.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

# What each kind of group reads; rows with an empty value share nothing with others.
NEEDS = {
    "image": ("image_path",),
    "product": ("image_path", "item_id"),
    "near-duplicate": ("image_path", "item_id", "image_sha1", "phash"),
}


def group_rows(table: pd.DataFrame, kind: str, distance: int) -> NDArray[np.int64]:
    """Number the groups of a VQA table.

    Args:
        table: the columns NEEDS[kind]. kind: "image": rows of one picture; "product": also rows of
            one product; "near-duplicate": also identical pictures, and pictures whose perceptual
            hashes differ in at most `distance` of 64 bits from those at the cluster's centre.
    Returns:
        [n] group of each row, numbered by first appearance.
    Raises:
        UserError: a column is missing, or a perceptual hash isn't 16 hex digits.
    """
    missing = [name for name in NEEDS[kind] if name not in table.columns]
    if missing:
        raise UserError(
            f"groups by {kind} need the column(s) {', '.join(missing)}; the table has "
            f"{', '.join(table.columns)}. Use --group image, or add the columns with --balanced."
        )
    equal = [name for name in NEEDS[kind] if name != "phash"]
    units = joined([codes(table[name]) for name in equal])
    if kind == "near-duplicate":
        units = clusters(units, table["phash"], distance)[units]
    numbers: NDArray[np.int64] = pd.factorize(units)[0].astype(np.int64)
    return numbers


def codes(values: pd.Series) -> NDArray[np.int64]:
    """[n] a number for each distinct value; -1 for an empty one."""
    numbers = pd.factorize(values)[0].astype(np.int64)
    numbers[(values == "").to_numpy(dtype=bool)] = -1
    return numbers


def joined(columns: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """[n] connected components of rows that share a value (not -1) in any column."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    n = len(columns[0])
    rows, values, width = [], [], n
    for column in columns:  # a graph of rows and values: each row is tied to its values
        known = np.flatnonzero(column >= 0)
        rows.append(known)
        values.append(column[known] + width)
        width += int(column.max(initial=-1)) + 1
    ends = (np.concatenate(rows), np.concatenate(values))
    graph = coo_matrix((np.ones(len(ends[0]), dtype=np.int8), ends), shape=(width, width))
    labels: NDArray[np.int64] = connected_components(graph, directed=False)[1][:n].astype(np.int64)
    return pd.factorize(labels)[0].astype(np.int64)


def hash_bits(values: Sequence[str]) -> NDArray[np.uint64]:
    """[n] perceptual hashes as integers.

    Raises:
        UserError: a value isn't 16 hex digits.
    """
    try:
        bits = [int(value, 16) for value in values]
        if any(len(value) != 16 for value in values):
            raise ValueError
    except ValueError:
        bad = next(v for v in values if len(v) != 16 or not set(v) <= set("0123456789abcdef"))
        raise UserError(f"phash {bad!r} isn't 16 hex digits (imagehash.phash as text).") from None
    return np.array(bits, dtype=np.uint64)


def close_pairs(
    left: NDArray[np.uint64], right: NDArray[np.uint64], distance: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Positions (i, j) with at most `distance` different bits between left[i] and right[j].

    All pairs are compared, a block at a time: 14,798 hashes against themselves take about a second.
    """
    step = max(1, 4_000_000 // max(1, len(right)))
    for start in range(0, len(left), step):
        apart = np.bitwise_count(left[start : start + step, None] ^ right[None, :])
        i, j = np.nonzero(apart <= distance)
        yield i + start, j


def neighbours(bits: NDArray[np.uint64], distance: int) -> csr_matrix:
    """[n, n] 1 where two hashes are within the distance, the diagonal included."""
    from scipy.sparse import csr_matrix

    pairs = list(close_pairs(bits, bits, distance))
    i = np.concatenate([p[0] for p in pairs]) if pairs else np.empty(0, dtype=np.int64)
    j = np.concatenate([p[1] for p in pairs]) if pairs else np.empty(0, dtype=np.int64)
    return csr_matrix((np.ones(len(i), dtype=np.int32), (i, j)), shape=(len(bits), len(bits)))


def close_hashes(
    owners: NDArray[np.int64], hashes: pd.Series, distance: int
) -> tuple[csr_matrix, csr_matrix]:
    """Which owner has which hash, and which hashes are close.

    Args:
        owners: [n] unit or group of each row, 0..u-1. hashes: [n] perceptual hashes, "" if unknown.
    Returns:
        [u, h] 1 where the owner has a picture with the hash; [h, h] see `neighbours`.
    """
    from scipy.sparse import csr_matrix

    pairs = pd.DataFrame({"owner": owners, "phash": hashes.to_numpy()})
    pairs = pairs[pairs["phash"] != ""].drop_duplicates()
    number, names = pd.factorize(pairs["phash"], sort=True)
    ones = np.ones(len(pairs), dtype=np.int32)
    shape = (int(owners.max(initial=-1)) + 1, len(names))
    has = csr_matrix((ones, (pairs["owner"], number)), shape=shape)
    return has, neighbours(hash_bits(list(names)), distance)


def clusters(units: NDArray[np.int64], hashes: pd.Series, distance: int) -> NDArray[np.int64]:
    """Put units (sets of rows that belong together anyway) around centres.

    Units are taken in order of density, the number of units' pictures within the distance of
    theirs. The first becomes a centre and takes in every free unit that has a picture within the
    distance of one of its own; then the next free one, and so on.

    Args:
        units: [n] unit of each row, 0..u-1. hashes: [n] perceptual hashes, "" if unknown.
    Returns:
        [u] cluster of each unit: the number of its centre.
    """
    has, close = close_hashes(units, hashes, distance)
    owners = has.T.tocsr()
    density = has @ (close @ np.asarray(has.sum(axis=0)).ravel())
    cluster = np.arange(has.shape[0])
    free = np.ones(has.shape[0], dtype=bool)
    for centre in np.argsort(-density, kind="stable"):
        if not free[centre] or density[centre] == 0:
            continue
        near = close[has[centre].indices].indices
        taken = owners[np.unique(near)].indices
        taken = taken[free[taken]]
        cluster[taken] = centre
        cluster[centre] = centre
        free[taken] = False
        free[centre] = False
    return cluster


def bundles(
    groups: NDArray[np.int64], hashes: pd.Series, distance: int, limit: int
) -> NDArray[np.int64]:
    """Gather groups with look-alikes in each other, so that a split seldom parts these.

    Clusters don't chain, hence a picture at the rim of one may look like one of another. A bundle
    grows from the largest free group over such neighbours until it has `limit` rows: small chains
    stay whole, and a cloud of thousands is cut into connected pieces instead of at random.

    Args:
        groups: [n] group of each row, 0..g-1. limit: rows of a bundle; a larger group is one alone.
    Returns:
        [n] bundle of each row.
    """
    has, close = close_hashes(groups, hashes, distance)
    touching = (has @ close @ has.T).tocsr()
    rows = np.bincount(groups)
    bundle = np.full(len(rows), -1)
    for start in np.argsort(-rows, kind="stable"):
        size, queue = 0, deque([start])
        while queue:
            group = queue.popleft()
            if bundle[group] >= 0 or (size and size + rows[group] > limit):
                continue
            bundle[group] = start
            size += rows[group]
            near = touching.indices[touching.indptr[group] : touching.indptr[group + 1]]
            queue.extend(near[bundle[near] < 0])
    whole: NDArray[np.int64] = bundle[groups]
    return whole
