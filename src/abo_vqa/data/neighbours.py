"""Which units (sets of a table's rows) have images that are alike, without listing their pairs.

Thousands of units may have the same hash: the pairs of such units would fill the memory, where two
sparse matrices, of units and nodes and of nodes alike, say the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_matrix

from abo_vqa.data.similarity import csr_columns

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Neighbours:
    """Units that have an image like one of a unit's own; each unit with a node is its own.

    Args:
        has: [u, k] 1 where a unit has a node.
        adjacency: [k, k] 1 where two nodes are alike, themselves included.
    """

    def __init__(self, has: csr_matrix, adjacency: csr_matrix) -> None:
        self._has = has
        self._adjacency = adjacency
        self._owners = has.T.tocsr()

    def among(self, units: NDArray[np.int64]) -> Neighbours:
        """Return the neighbours that some units are of each other.

        Args:
            units: those that count, whose numbers are their positions here.
        """
        has = self._has[units]
        nodes, places = np.unique(has.indices, return_inverse=True)
        shape = (len(units), len(nodes))
        fewer = csr_matrix((has.data, places, has.indptr), shape=shape)
        return Neighbours(fewer, self._adjacency[nodes][:, nodes])

    def of(self, unit: int) -> NDArray[np.int64]:
        """Return the neighbours of a unit.

        Args:
            unit: its number.
        """
        nodes = csr_columns(self._has, np.array([unit]))
        return np.unique(csr_columns(self._owners, csr_columns(self._adjacency, nodes)))

    def smallest(self, values: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the smallest value of each unit's neighbours.

        Args:
            values: [u] of the units.

        Returns:
            [u] the largest value of all for a unit without nodes.
        """
        for matrix in (self._owners, self._adjacency, self._has):
            values = _row_minima(matrix, values)
        return values


def _row_minima(matrix: csr_matrix, values: NDArray[np.int64]) -> NDArray[np.int64]:
    """[rows] the smallest value of the columns that a row has; the largest of all if none."""
    minima = np.full(matrix.shape[0], values.max(initial=0))
    present = np.diff(matrix.indptr) > 0
    if present.any():
        starts = matrix.indptr[:-1][present]
        minima[present] = np.minimum.reduceat(values[matrix.indices], starts)
    return minima


def order_by_density(density: NDArray[np.int64], has: csr_matrix) -> NDArray[np.int64]:
    """Sort units from the densest to the sparsest, ties by their nodes in ascending order.

    Args:
        density: [u] of the units.
        has: [u, k] 1 where a unit has a node, with sorted indices.

    Returns:
        [u] the units; those of the same nodes keep their order.
    """
    order = np.argsort(-density, kind="stable")
    run = _run_starts(density[order])
    length = np.diff(has.indptr)
    tied, column = _in_runs(np.arange(len(order)), run), 0
    while len(tied):  # a radix sort by the first node, the second, ..., of those that are tied yet
        units = order[tied]
        node = np.full(len(units), -1, dtype=np.int64)  # a unit without a further node comes first
        more = length[units] > column
        node[more] = has.indices[has.indptr[:-1][units[more]] + column]
        by_node = np.lexsort((node, run[tied]))
        order[tied], node = units[by_node], node[by_node]
        run[tied] = tied[_run_starts(run[tied], node)]
        tied, column = _in_runs(tied[node >= 0], run), column + 1
    return order


def _run_starts(*keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """[n] the position at which the run of equal keys starts that a position is in."""
    changes = np.zeros(len(keys[0]), dtype=np.bool_)
    for key in keys:
        changes[1:] |= key[1:] != key[:-1]
    starts: NDArray[np.int64] = np.maximum.accumulate(np.where(changes, np.arange(len(changes)), 0))
    return starts


def _in_runs(positions: NDArray[np.int64], run: NDArray[np.int64]) -> NDArray[np.int64]:
    """The positions whose run isn't theirs alone."""
    starts = run[positions]
    same = np.zeros(len(positions) + 1, dtype=np.bool_)
    same[1:-1] = starts[1:] == starts[:-1]
    return positions[same[1:] | same[:-1]]
