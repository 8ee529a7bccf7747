"""Which images of a table resemble each other, as a graph, however that is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix, eye_array

from abo_vqa.core.errors import UserError
from abo_vqa.data.key_columns import run_starts

if TYPE_CHECKING:
    from numpy.typing import NDArray

Pairs = tuple["NDArray[np.int64]", "NDArray[np.int64]"]
"""The ends of some pairs: first[k] and second[k] are one."""

# Beyond that the threshold separates nothing. A large catalogue has more near-duplicates of each
# image; the pairs of a million images may take 3 GB.
_MAX_PAIRS, _MAX_PAIRS_PER_IMAGE = 40_000_000, 200


@dataclass(frozen=True)
class SimilarityGraph:
    """What a table's images are compared by, and which of it is alike.

    Attributes:
        nodes: [n] the node of each row: its image's hash, vector, or both; -1 if it has none.
        adjacency: [k, k] 1 where two nodes are alike, themselves included; symmetric.
    """

    nodes: NDArray[np.int64]
    adjacency: csr_matrix

    def incidence(self, owners: NDArray[np.int64]) -> csr_matrix:
        """Return which owners have an image with which node.

        Args:
            owners: [n] the owner of each row, 0..u-1.

        Returns:
            [u, k] 1 where an owner has a node.
        """
        known = (self.nodes >= 0) & run_starts(self.nodes, owners)
        shape = (int(owners.max(initial=-1)) + 1, self.adjacency.shape[0])
        ones = np.ones(int(known.sum()), dtype=np.int32)
        has = csr_matrix((ones, (owners[known], self.nodes[known])), shape=shape)
        has.sum_duplicates()
        has.data[:] = 1
        return has

    def take(self, rows: NDArray[np.int64]) -> SimilarityGraph:
        """Return the graph of other rows of the same images.

        Args:
            rows: positions, in any order.
        """
        return SimilarityGraph(self.nodes[rows], self.adjacency)

    def resembles(self, rows: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Find the rows whose image is like that of one of some rows.

        Args:
            rows: [n] True for the rows to compare with.

        Returns:
            [n] whether a row's image is like one of theirs; they themselves are.
        """
        chosen = np.zeros(self.adjacency.shape[0] + 1, dtype=np.int64)
        chosen[self.nodes[rows & (self.nodes >= 0)]] = 1
        near = np.zeros(len(chosen), dtype=bool)  # the last one is that of the node -1
        near[:-1] = (self.adjacency @ chosen[:-1]) > 0
        alike: NDArray[np.bool_] = near[self.nodes]
        return alike


def graph_of_pairs(
    nodes: NDArray[np.int64],
    count: int,
    search: Callable[[int], Iterable[Pairs]],
    setting: str,
) -> SimilarityGraph:
    """Build a graph from the pairs of nodes that are alike.

    Args:
        nodes: [n] the node of each row, -1 for none.
        count: the number of nodes.
        search: finds the pairs, each once and none of a node with itself; given a number, it may
            stop when it has more pairs than that.
        setting: what makes a pair alike, for the message.

    Raises:
        UserError: so many pairs are alike that grouping is useless.
    """
    ends: list[NDArray[np.int32]] = []
    total = count  # both orders of a pair are entries, and each node is like itself
    for i, j in search(_max_pairs(count) // 2):
        total += 2 * len(i)
        _require_fewer_pairs(total, count, setting)
        ends.append(np.stack([i, j]).astype(np.int32))
    _require_fewer_pairs(total, count, setting)
    i, j = np.concatenate(ends, axis=1) if ends else np.empty((2, 0), dtype=np.int32)
    ends.clear()
    half = coo_matrix((np.ones(len(i), dtype=np.int32), (i, j)), shape=(count, count)).tocsr()
    itself = csr_matrix(eye_array(count, dtype=np.int32))
    return SimilarityGraph(nodes, csr_matrix(half + half.T + itself))


def _max_pairs(count: int) -> int:
    """How many pairs of so many images may be alike."""
    return max(_MAX_PAIRS, _MAX_PAIRS_PER_IMAGE * count)


def _require_fewer_pairs(total: int, count: int, setting: str) -> None:
    """Raise UserError if too many pairs are alike."""
    if total > _max_pairs(count):
        raise UserError(
            f"at {setting} more than {_max_pairs(count):,} pairs of {count:,} images count as "
            "near-duplicates, which makes grouping useless. Use a smaller distance, or a cosine "
            "closer to 1."
        )


def unite_graphs(graphs: Sequence[SimilarityGraph]) -> SimilarityGraph:
    """Combine graphs of the same rows: images are alike if any of the graphs says so.

    Args:
        graphs: at least one.

    Returns:
        A graph whose nodes are the combinations of nodes that occur.

    Raises:
        UserError: so many pairs are alike that grouping is useless.
    """
    if len(graphs) == 1:
        return graphs[0]
    rows = np.stack([graph.nodes for graph in graphs], axis=1)
    known = (rows >= 0).any(axis=1)
    combinations, places = np.unique(rows[known], axis=0, return_inverse=True)
    nodes = np.full(len(rows), -1, dtype=np.int64)
    nodes[known] = places.ravel()
    count = len(combinations)
    adjacency = csr_matrix(eye_array(count, dtype=np.int32))
    for graph, column in zip(graphs, combinations.T, strict=True):
        owner = np.flatnonzero(column >= 0)
        ones = np.ones(len(owner), dtype=np.int32)
        size = graph.adjacency.shape[0]
        has = csr_matrix((ones, (owner, column[owner])), shape=(count, size))
        sizes = np.asarray(has.sum(axis=0), dtype=np.int64).ravel()
        _require_fewer_pairs(int(sizes @ (graph.adjacency @ sizes)), count, "these thresholds")
        adjacency = adjacency + has @ graph.adjacency @ has.T
    adjacency = csr_matrix(adjacency)
    adjacency.data[:] = 1
    return SimilarityGraph(nodes, adjacency)


def csr_columns(matrix: csr_matrix, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the column indices of some rows' entries, ten times faster than scipy's indexing.

    Args:
        matrix: a sparse matrix.
        rows: indices of rows.

    Returns:
        the column indices, row after row.
    """
    starts = matrix.indptr[rows]
    counts = matrix.indptr[rows + 1] - starts
    shift = np.repeat(starts - np.cumsum(counts) + counts, counts)
    columns: NDArray[np.int64] = matrix.indices[shift + np.arange(len(shift))]
    return columns
