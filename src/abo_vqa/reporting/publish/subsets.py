"""Random sets of k items with given inclusion probabilities: conditional Poisson sampling.

Chen, Dempster and Liu (1994), "Weighted finite population sampling to maximize entropy".
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ITERATIONS = 200  # of the fit, which converges geometrically
_MAX_INCLUSION = 0.98  # an inclusion probability of 1 would need an infinite weight
_TOLERANCE = 1e-12


def symmetric_polynomials(weights: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Return the elementary symmetric polynomials of the first 0, 1, … n weights.

    Args:
        weights: [n].
        k: highest degree.

    Returns:
        [i, j] = e_j of weights[:i], the sum of products over all its subsets of size j; shape
        (n + 1, k + 1).
    """
    sums = np.zeros((len(weights) + 1, k + 1))
    sums[:, 0] = 1.0
    for row, weight in enumerate(weights, 1):
        sums[row, 1:] = sums[row - 1, 1:] + weight * sums[row - 1, :-1]
    return sums


def inclusion_probabilities(weights: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Return each item's probability to be in a set of k drawn with P(set) ∝ its weights' product.

    e_(k-1) of the other items is computed from those before and those after an item. Dividing the
    item out of the whole polynomial is shorter, but numerically unstable from a dozen choices on.

    Args:
        weights: [n].
        k: size of the sets.
    """
    before = symmetric_polynomials(weights, k)
    after = symmetric_polynomials(weights[::-1], k)[::-1]  # [i] is of weights[i:]
    others = (before[:-1, :k] * after[1:, k - 1 :: -1]).sum(axis=1)
    probabilities: NDArray[np.float64] = weights * others / before[-1, k]
    return probabilities


def fit_weights(shares: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Return weights under which each item is in a set of k with probability k times its share.

    Shares above 1/k are cut to what is possible; the others take up the difference.

    Args:
        shares: [n].
        k: size of the sets.
    """
    if len(shares) <= k:
        return np.ones(len(shares))
    target = _feasible(k * shares / shares.sum(), k)
    weights: NDArray[np.float64] = target.copy()
    for _ in range(_ITERATIONS):
        weights *= target / np.maximum(inclusion_probabilities(weights, k), _TOLERANCE)
        weights /= weights.mean()
    return weights


def _feasible(target: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Cut inclusion probabilities to the largest allowed one, keeping their sum k."""
    for _ in range(len(target)):
        over = target > _MAX_INCLUSION
        free = k - _MAX_INCLUSION * over.sum()
        rest = target[~over].sum()
        target = np.where(over, _MAX_INCLUSION, target * free / rest if rest else target)
        if not (target > _MAX_INCLUSION + _TOLERANCE).any():
            break
    return target


class SubsetSampler:
    """Draws sets of k of n items with P(set) ∝ the product of its items' weights.

    Args:
        weights: [n].
        k: size of the sets; n if that is smaller.
    """

    def __init__(self, weights: NDArray[np.float64], k: int) -> None:
        n = len(weights)
        self.k = min(k, n)
        # [j, n - i] = e_j of weights[i:]: ascending along a row, as bisection needs it
        self._sums = np.ascontiguousarray(symmetric_polynomials(weights[::-1], self.k).T)

    def draw(self, rng: random.Random) -> list[int]:
        """Return the indices of a set in ascending order.

        With j items to go from index i on, none of i, …, m - 1 is in the set with probability
        e_j(weights[m:]) / e_j(weights[i:]): the next item is found by bisection.
        """
        indices: list[int] = []
        n = rest = self._sums.shape[1] - 1
        for j in range(self.k, 0, -1):
            level = rng.random() * self._sums[j, rest]
            # The largest rest whose polynomial is at most this: the item before it is in the set.
            after = int(np.searchsorted(self._sums[j, : rest + 1], level, side="right")) - 1
            indices.append(n - after - 1)
            rest = after
        return indices
