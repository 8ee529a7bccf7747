"""Which rows of a VQA table belong together, so that a split can't put them on both sides.

Groups are made by equality (of the image, the picture's bytes, the product) and, for near-duplicate
pictures, by perceptual hashes within a distance. Near-duplicates are not chained: "A looks like B,
B like C, …" leads, on white backgrounds, from a lamp to a chair. A cluster here is a centre and
what lies within the distance of it, nothing further (Butina, J. Chem. Inf. Comput. Sci. 39, 1999).

Which rows are together depends on the rows alone and not on their order, so that the audit of a
split finds the groups that the split was made by.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from abo_vqa.core.errors import UserError
from abo_vqa.data.hashes import HashGraph, csr_columns, hash_graph

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

# What each kind of group reads; rows with an empty value share nothing with others.
GROUP_COLUMNS = {
    "image": ("image_path",),
    "product": ("image_path", "item_id"),
    "near-duplicate": ("image_path", "item_id", "image_sha1", "phash"),
}
# Without which it would be another kind. What else is missing, the audit says.
REQUIRED_COLUMNS = {
    "image": ("image_path",),
    "product": ("image_path", "item_id"),
    "near-duplicate": ("image_path", "phash"),
}


def group_rows(
    table: pd.DataFrame, kind: str, distance: int, graph: HashGraph | None = None
) -> NDArray[np.int64]:
    """Number the groups of a VQA table.

    Args:
        table: the columns REQUIRED[kind], and what it has of NEEDS[kind].
        kind: "image": rows of one picture; "product": also rows of one product; "near-duplicate":
            also identical pictures, and pictures whose perceptual hashes differ in at most
            `distance` of 64 bits from those at the cluster's centre.
        graph: of the table's hashes at this distance, where it has been made.
    Returns:
        [n] group of each row, numbered by first appearance.
    Raises:
        UserError: a column is missing, or a perceptual hash isn't 16 hex digits.
    """
    require_columns(table, kind)
    equal = [name for name in GROUP_COLUMNS[kind] if name != "phash" and name in table]
    units = connected_rows([_codes(table[name]) for name in equal])
    if kind == "near-duplicate":
        units = leader_clusters(units, table["phash"], distance, graph)[units]
    numbers: NDArray[np.int64] = pd.factorize(units)[0].astype(np.int64)
    return numbers


def require_columns(table: pd.DataFrame, kind: str) -> None:
    """Raise UserError if a kind of group can't be made of a table's columns."""
    if has_columns(kind, table.columns):
        return
    missing = [name for name in GROUP_COLUMNS[kind] if name not in table.columns]
    remedy = "Add them with --balanced FILE"
    if "item_id" not in missing:
        remedy += " or, for pictures at hand, --images DIR"
    raise UserError(
        f"groups by {kind} need the column(s) {', '.join(missing)}; the table has "
        f"{', '.join(table.columns)}. {remedy}; or use --group image."
    )


def has_columns(kind: str, columns: Iterable[str]) -> bool:
    """Whether a table has the columns without which there are no groups of a kind."""
    return set(REQUIRED_COLUMNS[kind]) <= set(columns)


def _codes(values: pd.Series) -> NDArray[np.int64]:
    """[n] a number for each distinct value; -1 for an empty one."""
    numbers = pd.factorize(values)[0].astype(np.int64)
    numbers[(values == "").to_numpy(dtype=bool)] = -1
    return numbers


def connected_rows(columns: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
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


def leader_clusters(
    units: NDArray[np.int64], hashes: pd.Series, distance: int, graph: HashGraph | None = None
) -> NDArray[np.int64]:
    """Put units (sets of rows that belong together anyway) around centres.

    Units are taken in order of density, the number of units' pictures within the distance of
    theirs, those of equal density in the order of their hashes. The first becomes a centre and
    takes in every free unit that has a picture within the distance of one of its own; then the next
    free one, and so on. Units with the same hashes are neighbours of each other and of the same
    others, so that it doesn't matter which of them comes first.

    Args:
        units: [n] unit of each row, 0..u-1. hashes: [n] perceptual hashes, "" if unknown.
    Returns:
        [u] cluster of each unit: the number of its centre.
    """
    graph = graph or hash_graph(hashes, distance)
    has = graph.held(units, hashes)
    owners = has.T.tocsr()
    density = has @ (graph.close @ np.asarray(has.sum(axis=0)).ravel())
    cluster = np.arange(has.shape[0])
    free = density > 0
    for centre in _by_density(density, has):
        if not free[centre]:
            continue
        near = np.unique(csr_columns(graph.close, csr_columns(has, np.array([centre]))))
        taken = csr_columns(owners, near)
        taken = taken[free[taken]]
        cluster[taken] = centre
        free[taken] = False
    return cluster


def _by_density(density: NDArray[np.int64], has: csr_matrix) -> list[int]:
    """Units from the densest to the sparsest, ties by their hashes, whatever their numbers."""
    own = [
        tuple(sorted(has.indices[start:end]))
        for start, end in zip(has.indptr[:-1], has.indptr[1:], strict=True)
    ]
    return sorted(range(len(own)), key=lambda unit: (-density[unit], own[unit]))


def _touching_groups(groups: NDArray[np.int64], hashes: pd.Series, graph: HashGraph) -> csr_matrix:
    """[g, g] how many pairs of close hashes two groups have in each other."""
    has = graph.held(groups, hashes)
    touching: csr_matrix = (has @ graph.close @ has.T).tocsr()
    return touching


def bundle_groups(
    groups: NDArray[np.int64],
    hashes: pd.Series,
    distance: int,
    limit: int,
    whole: int = 0,
    graph: HashGraph | None = None,
) -> NDArray[np.int64]:
    """Gather groups with look-alikes in each other, so that a split seldom parts these.

    Clusters don't chain, hence a picture at the rim of one may look like one of another. Groups
    that touch, directly or over others, are a component; a component of thousands of rows couldn't
    be dealt to either side and is cut into bundles: the groups that hold together most strongly
    (pairs of look-alikes for their size) are joined first, as long as a bundle has at most `limit`
    rows. The result depends on the order of rows only through the groups' numbers.

    Args:
        groups: [n] group of each row, 0..g-1. limit: rows of a bundle in a component that is cut;
            a larger group is one alone. whole: rows up to which a component isn't cut.
    Returns:
        [n] bundle of each row.
    """
    from scipy.sparse.csgraph import connected_components

    touching = _touching_groups(groups, hashes, graph or hash_graph(hashes, distance))
    rows = np.bincount(groups)
    component = connected_components(touching, directed=False)[1]
    weight = np.bincount(component, weights=rows)[component]
    cut = weight > whole
    parent, size = np.arange(len(rows)), rows.copy()
    for left, right in _strongest_first(touching, rows):
        a, b = _find_root(parent, left), _find_root(parent, right)
        if a != b and (not cut[left] or size[a] + size[b] <= limit):
            parent[max(a, b)] = min(a, b)
            size[min(a, b)] += size[max(a, b)]
    whole_bundles = np.array(
        [_find_root(parent, group) for group in range(len(rows))], dtype=np.int64
    )
    bundle: NDArray[np.int64] = whole_bundles[groups]
    return bundle


def _strongest_first(touching: csr_matrix, rows: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Pairs of touching groups by how strongly they hold together, ties by their numbers."""
    pairs = touching.tocoo()
    upper = pairs.row < pairs.col
    left, right = pairs.row[upper], pairs.col[upper]
    # The root of whole numbers' product is rounded alike on every machine, and so is the ratio.
    strength = pairs.data[upper] / np.sqrt(rows[left] * rows[right])
    order = np.lexsort((right, left, -strength))
    return list(zip(left[order].tolist(), right[order].tolist(), strict=True))


def _find_root(parent: NDArray[np.int64], item: int) -> int:
    """The representative of an item's set in a forest of sets; paths to it are halved."""
    while parent[item] != item:
        parent[item] = parent[parent[item]]
        item = int(parent[item])
    return item
