"""Which rows of a VQA table belong together, so that a split can't put them on both sides.

Rows are grouped by equal values (the image, the bytes of its file, the product), and images by
their likeness (see `similarity_rule`). Near-duplicates aren't linked transitively: on white
backgrounds, "A is like B, B is like C, …" leads from a lamp to a chair. Instead a cluster is a
centre and what is like it (Butina, J. Chem. Inf. Comput. Sci. 39, 1999, 747-750).

Groups depend on the rows alone and not on their order, so that the audit of a split finds the same
groups as the split.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from abo_vqa.core.errors import UserError
from abo_vqa.data.similarity import SimilarityGraph, csr_columns
from abo_vqa.data.similarity_rule import SimilarityRule
from abo_vqa.data.variants import variant_codes

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

GROUP_COLUMNS = {
    "image": ("image_path",),
    "product": ("image_path", "item_id"),
    "near-duplicate": ("image_path", "item_id", "image_sha1", "phash"),
    "variant": ("image_path", "item_id", "image_sha1", "phash", "name", "color"),
}
"""A kind of group → the columns it is made from; an empty value groups a row with no other."""

REQUIRED_COLUMNS = {
    "image": ("image_path",),
    "product": ("image_path", "item_id"),
    "near-duplicate": ("image_path", "phash"),
    "variant": ("image_path", "phash", "name"),
}
"""The columns without which it would be another kind; the audit reports other missing ones."""


BY_SIMILARITY = ("near-duplicate", "variant")
"""The kinds of groups that depend on which images are alike."""

# Columns whose equal values make a group by themselves.
_EQUAL = ("image_path", "item_id", "image_sha1")


def group_rows(
    table: pd.DataFrame, kind: str, rule: SimilarityRule, graph: SimilarityGraph | None = None
) -> NDArray[np.int64]:
    """Number the groups of a VQA table.

    Args:
        table: with the columns REQUIRED_COLUMNS[kind]; others of GROUP_COLUMNS[kind] are used.
        kind: "image" groups the rows of one image; "product" also those of one product;
            "near-duplicate" also those of identical images, and of images like that at a cluster's
            centre; "variant" also those of products of one name (see `variants`).
        rule: which images are alike.
        graph: of the table by this rule, if it exists already.

    Returns:
        [n] the group of each row, numbered by first appearance.

    Raises:
        UserError: a column is missing, or a perceptual hash isn't 16 hex digits.
    """
    require_columns(table, kind)
    equal = [name for name in GROUP_COLUMNS[kind] if name in _EQUAL and name in table]
    columns = [_codes(table[name]) for name in equal]
    if kind == "variant":
        columns.append(variant_codes(table, rule))
    units = connected_rows(columns)
    if kind in BY_SIMILARITY:
        units = leader_clusters(units, graph or rule.graph(table))[units]
    numbers: NDArray[np.int64] = pd.factorize(units)[0].astype(np.int64)
    return numbers


def require_columns(table: pd.DataFrame, kind: str) -> None:
    """Raise UserError if a table lacks the columns for a kind of group.

    Args:
        table: the table.
        kind: see `group_rows`.
    """
    if has_columns(kind, table.columns):
        return
    missing = [name for name in REQUIRED_COLUMNS[kind] if name not in table.columns]
    remedy = "Add it with --balanced FILE"
    if missing == ["phash"]:
        remedy += " or, if you have the images, --images DIR"
    raise UserError(
        f"groups by {kind} need the column(s) {', '.join(missing)}; the table has "
        f"{', '.join(table.columns)}. {remedy}; or use --group image (the stage: split.group)."
    )


def has_columns(kind: str, columns: Iterable[str]) -> bool:
    """Return whether a table has the columns that a kind of group requires.

    Args:
        kind: see `group_rows`.
        columns: the table's.
    """
    return set(REQUIRED_COLUMNS[kind]) <= set(columns)


def strictest_group(columns: Iterable[str], limit: str = "near-duplicate") -> str:
    """Return the strictest kind of group that a table's columns allow.

    Args:
        columns: the table's.
        limit: the strictest kind that is wanted; groups by variant are asked of no split that
            wasn't made by them.
    """
    kinds = list(GROUP_COLUMNS)
    wanted = kinds[: kinds.index(limit) + 1]
    present = list(columns)
    return [kind for kind in wanted if has_columns(kind, present)][-1]


def _codes(values: pd.Series) -> NDArray[np.int64]:
    """[n] a number for each distinct value; -1 for the empty one."""
    numbers = pd.factorize(values)[0].astype(np.int64)
    numbers[(values == "").to_numpy(dtype=bool)] = -1
    return numbers


def connected_rows(columns: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Find the connected components of rows that share a value in any column.

    Args:
        columns: [n] numbers for the values; -1 is shared by nobody.

    Returns:
        [n] the component of each row, numbered by first appearance.
    """
    n = len(columns[0])
    rows, values, width = [], [], n
    for column in columns:  # a bipartite graph of rows and values
        known = np.flatnonzero(column >= 0)
        rows.append(known)
        values.append(column[known] + width)
        width += int(column.max(initial=-1)) + 1
    ends = (np.concatenate(rows), np.concatenate(values))
    graph = coo_matrix((np.ones(len(ends[0]), dtype=np.int8), ends), shape=(width, width))
    labels: NDArray[np.int64] = connected_components(graph, directed=False)[1][:n].astype(np.int64)
    return pd.factorize(labels)[0].astype(np.int64)


def leader_clusters(units: NDArray[np.int64], graph: SimilarityGraph) -> NDArray[np.int64]:
    """Cluster units (sets of rows that belong together anyway) around centres (Butina, 1999).

    Units are visited by decreasing density, the number of images that are like theirs; ties are
    broken by their hashes, or names. Each unit that is still free becomes a centre and takes every
    free unit that has an image like one of its own. Units with the same hashes are neighbours of
    each other and of the same others, so their order doesn't matter.

    Args:
        units: [n] the unit of each row, 0..u-1.
        graph: of the rows.

    Returns:
        [u] the cluster of each unit: the number of its centre.
    """
    has = graph.incidence(units)
    owners = has.T.tocsr()
    density = has @ (graph.adjacency @ np.asarray(has.sum(axis=0)).ravel())
    cluster = np.arange(has.shape[0])
    free = density > 0
    for centre in _by_density(density, has):
        if not free[centre]:
            continue
        near = np.unique(csr_columns(graph.adjacency, csr_columns(has, np.array([centre]))))
        taken = csr_columns(owners, near)
        taken = taken[free[taken]]
        cluster[taken] = centre
        free[taken] = False
    return cluster


def _by_density(density: NDArray[np.int64], has: csr_matrix) -> list[int]:
    """Units from the densest to the sparsest, ties broken by their nodes."""
    own = [
        tuple(sorted(has.indices[start:end]))
        for start, end in zip(has.indptr[:-1], has.indptr[1:], strict=True)
    ]
    return sorted(range(len(own)), key=lambda unit: (-density[unit], own[unit]))


def _shared_pairs(groups: NDArray[np.int64], graph: SimilarityGraph) -> csr_matrix:
    """[g, g] how many pairs of near-duplicates two groups share."""
    has = graph.incidence(groups)
    shared: csr_matrix = (has @ graph.adjacency @ has.T).tocsr()
    return shared


def bundle_groups(
    groups: NDArray[np.int64], graph: SimilarityGraph, limit: int, whole: int = 0
) -> NDArray[np.int64]:
    """Merge groups that contain near-duplicates of each other, so that a split separates few.

    Clusters don't chain, so an image at the edge of one may be a near-duplicate of one in another.
    Groups linked in this way, directly or through others, form a component. A component of
    thousands of rows would fit into neither side and is cut into bundles: the most strongly linked
    groups (pairs of near-duplicates, relative to the groups' sizes) are merged first, as long as
    the bundle has at most `limit` rows. The order of rows matters only through the groups' numbers.

    Args:
        groups: [n] the group of each row, 0..g-1.
        graph: of the rows.
        limit: maximum rows of a bundle in a component that is cut; a larger group stays alone.
        whole: rows up to which a component isn't cut.

    Returns:
        [n] the bundle of each row.
    """
    shared = _shared_pairs(groups, graph)
    rows = np.bincount(groups)
    component = connected_components(shared, directed=False)[1]
    weight = np.bincount(component, weights=rows)[component]
    cut = weight > whole
    parent, size = np.arange(len(rows)), rows.copy()
    for left, right in _strongest_first(shared, rows):
        a, b = _find_root(parent, left), _find_root(parent, right)
        if a != b and (not cut[left] or size[a] + size[b] <= limit):
            parent[max(a, b)] = min(a, b)
            size[min(a, b)] += size[max(a, b)]
    whole_bundles = np.array(
        [_find_root(parent, group) for group in range(len(rows))], dtype=np.int64
    )
    bundle: NDArray[np.int64] = whole_bundles[groups]
    return bundle


def _strongest_first(shared: csr_matrix, rows: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Pairs of linked groups, the most strongly linked first, ties by their numbers."""
    pairs = shared.tocoo()
    upper = pairs.row < pairs.col
    left, right = pairs.row[upper], pairs.col[upper]
    # Square roots of integers and their ratios round alike on every machine.
    strength = pairs.data[upper] / np.sqrt(rows[left] * rows[right])
    order = np.lexsort((right, left, -strength))
    return list(zip(left[order].tolist(), right[order].tolist(), strict=True))


def _find_root(parent: NDArray[np.int64], item: int) -> int:
    """The representative of an item's set in a disjoint-set forest, with path halving."""
    while parent[item] != item:
        parent[item] = parent[parent[item]]
        item = int(parent[item])
    return item
