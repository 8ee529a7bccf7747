"""Which rows of a VQA table belong together, so that a split can't put them on both sides.

Rows are grouped by equal values (the image, the bytes of its file, the product), and images by
their likeness (see `similarity_rule`). Near-duplicates aren't linked transitively: on white
backgrounds, "A is like B, B is like C, …" leads from a lamp to a chair. Instead a cluster is a
centre and what is like it (Butina, J. Chem. Inf. Comput. Sci. 39, 1999, 747-750).

Groups depend on the rows alone and not on their order, so that the audit of a split finds the same
groups as the split.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from abo_vqa.core.errors import UserError
from abo_vqa.data.key_columns import numbered_texts, run_starts
from abo_vqa.data.neighbours import Neighbours, order_by_density
from abo_vqa.data.similarity import SimilarityGraph
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

_MAX_ROUNDS = 100  # of choosing centres; a catalogue takes about ten


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
    numbers = numbered_texts(values)[0]
    numbers[(values == "").to_numpy(dtype=bool)] = -1
    return numbers


def connected_rows(columns: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Find the connected components of rows that share a value in any column.

    Args:
        columns: [n] numbers for the values; -1 is shared by nobody.

    Returns:
        [n] the component of each row, numbered by first appearance.
    """
    changes = run_starts(*columns)
    changes |= np.all([column < 0 for column in columns], axis=0)  # such rows share nothing
    columns = [column[changes] for column in columns]
    n = len(columns[0])
    rows, values, width = [], [], n
    for column in columns:  # a bipartite graph of rows and values
        known = np.flatnonzero(column >= 0)
        rows.append(known)
        values.append(column[known] + width)
        width += int(column.max(initial=-1)) + 1
    ends = (np.concatenate(rows), np.concatenate(values))
    graph = coo_matrix((np.ones(len(ends[0]), dtype=np.int8), ends), shape=(width, width))
    labels = connected_components(graph, directed=False)[1][:n]
    components: NDArray[np.int64] = pd.factorize(labels)[0].astype(np.int64)
    by_row: NDArray[np.int64] = components[np.cumsum(changes) - 1]
    return by_row


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
    near = Neighbours(has, graph.adjacency)
    density = has @ (graph.adjacency @ np.asarray(has.sum(axis=0)).ravel())
    order = order_by_density(density, has)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    with_nodes = np.flatnonzero(density > 0)
    centre = _centres(rank, with_nodes, near)
    first = near.smallest(np.where(centre, rank, len(order)))
    cluster = np.arange(len(order))
    cluster[with_nodes] = order[first[with_nodes]]
    return cluster


def _centres(
    rank: NDArray[np.int64], free: NDArray[np.int64], near: Neighbours
) -> NDArray[np.bool_]:
    """[u] whether a unit becomes a centre, if they are visited in the order of `rank`.

    Whoever comes before all its free neighbours will be a centre, and they won't: many units are
    decided at a time. Of random orders a few rounds decide all (Blelloch, Fineman & Shun, SPAA
    2012); what is left of others is visited one by one.
    """
    centre = np.zeros(len(rank), dtype=np.bool_)
    near = near.among(free)
    for _ in range(_MAX_ROUNDS):
        chosen = near.smallest(rank[free]) == rank[free]
        centre[free[chosen]] = True
        left = np.flatnonzero(near.smallest(np.where(chosen, 0, 1)) > 0)
        if not len(left):
            return centre
        free, near = free[left], near.among(left)
    undecided = np.ones(len(free), dtype=np.bool_)
    for unit in np.argsort(rank[free]).tolist():
        if undecided[unit]:
            centre[free[unit]] = True
            undecided[near.of(unit)] = False
    return centre


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
    weight = np.bincount(component, weights=rows)
    # A component that isn't cut is a bundle, numbered by its first group.
    first = np.unique(component, return_index=True)[1]
    bundles = first[component]
    cut = np.flatnonzero((weight > whole)[component])
    if len(cut):
        bundles[cut] = cut[_merge_strongest(shared[cut][:, cut], rows[cut], limit)]
    bundle: NDArray[np.int64] = bundles[groups]
    return bundle


def _merge_strongest(shared: csr_matrix, rows: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """[g] the first group of each group's bundle, of at most `limit` rows."""
    parent, size = list(range(len(rows))), rows.tolist()
    for left, right in _strongest_first(shared, rows):
        a, b = _find_root(parent, left), _find_root(parent, right)
        if a != b and size[a] + size[b] <= limit:
            parent[max(a, b)] = min(a, b)
            size[min(a, b)] += size[max(a, b)]
    return np.array([_find_root(parent, group) for group in range(len(rows))], dtype=np.int64)


def _strongest_first(shared: csr_matrix, rows: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Pairs of linked groups, the most strongly linked first, ties by their numbers."""
    pairs = shared.tocoo()
    upper = pairs.row < pairs.col
    left, right = pairs.row[upper], pairs.col[upper]
    # Square roots of integers and their ratios round alike on every machine.
    strength = pairs.data[upper] / np.sqrt(rows[left] * rows[right])
    order = np.lexsort((right, left, -strength))
    return zip(left[order].tolist(), right[order].tolist(), strict=True)


def _find_root(parent: list[int], item: int) -> int:
    """The representative of an item's set in a disjoint-set forest, with path halving."""
    while parent[item] != item:
        parent[item] = parent[parent[item]]
        item = parent[item]
    return item
