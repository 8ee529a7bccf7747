"""Intervals and tests that know several rows share an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK = 1000  # resamples at a time: bounds memory, doesn't change results


def per_cluster(
    values: NDArray[np.float64], clusters: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums [G, M] and counts [G, M] of values [n, M] within clusters; NaN isn't counted."""
    known = ~np.isnan(values)
    size = int(clusters.max()) + 1 if len(clusters) else 0
    sums = np.zeros((size, values.shape[1]))
    counts = np.zeros_like(sums)
    np.add.at(sums, clusters, np.where(known, values, 0.0))
    np.add.at(counts, clusters, known.astype(np.float64))
    return sums, counts


def bootstrap(
    values: NDArray[np.float64], clusters: NDArray[np.int64], resamples: int, seed: int
) -> NDArray[np.float64]:
    """Means under resampling of clusters with replacement (Efron & Tibshirani, 1993, ch. 8).

    How often each cluster is drawn is multinomial, so that all columns' resampled means are two
    matrix products: (W S) / (W N), W [R, G] draws, S and N [G, M] sums and counts by cluster.

    Args:
        values: [n, M] one column a model and metric; NaN where a row has no score.
        clusters: [n] number of each row's image.
    Returns:
        [R, M] resampled means; NaN where a resample has no score at all.
    """
    sums, counts = per_cluster(values, clusters)
    groups = len(sums)
    rng = np.random.default_rng(seed)
    means = np.empty((resamples, values.shape[1]))
    for start in range(0, resamples, BLOCK):
        rows = min(BLOCK, resamples - start)
        drawn = rng.integers(0, groups, size=(rows, groups))
        flat = drawn + groups * np.arange(rows)[:, None]
        weights = np.bincount(flat.ravel(), minlength=rows * groups).reshape(rows, groups)
        weights = weights.astype(np.float64)
        with np.errstate(invalid="ignore"):
            means[start : start + rows] = (weights @ sums) / (weights @ counts)
    return means


def interval(means: NDArray[np.float64], confidence: float) -> NDArray[np.float64]:
    """[M, 2] percentile interval of resampled means [R, M]."""
    tail = (1 - confidence) / 2
    if np.isnan(means).any():
        return np.asarray(np.nanquantile(means, [tail, 1 - tail], axis=0).T)
    return np.asarray(np.quantile(means, [tail, 1 - tail], axis=0).T)


def permutation_p(
    differences: NDArray[np.float64], clusters: NDArray[np.int64], resamples: int, seed: int
) -> NDArray[np.float64]:
    """Two-sided p of paired differences [n, P], by flipping the sign of whole clusters.

    Under the null hypothesis the two models' labels can be swapped for all rows of an image at
    once (Good, 2005, ch. 3). p = (1 + hits) / (1 + resamples) (Phipson & Smyth, 2010).
    """
    sums, _ = per_cluster(differences, clusters)
    rng = np.random.default_rng(seed)
    observed = np.abs(sums.sum(0))
    hits = np.zeros(differences.shape[1])
    for start in range(0, resamples, BLOCK):
        rows = min(BLOCK, resamples - start)
        signs = rng.integers(0, 2, size=(rows, len(sums))) * 2.0 - 1.0
        hits += (np.abs(signs @ sums) >= observed - 1e-9).sum(0)
    return np.asarray((1 + hits) / (1 + resamples))


def mcnemar_p(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Exact McNemar test (McNemar, 1947) of two models' 0/1 scores [n] on the same rows."""
    from scipy.stats import binomtest

    only_a, only_b = int(((a == 1) & (b == 0)).sum()), int(((a == 0) & (b == 1)).sum())
    if only_a + only_b == 0:
        return 1.0
    return float(binomtest(only_a, only_a + only_b).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (Holm, 1979): the family-wise error rate stays at alpha."""
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    stepped = np.maximum.accumulate(np.asarray(p_values)[order] * factors)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(stepped, 1.0)
    return [float(p) for p in adjusted]


def detectable(standard_error: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """Smallest true difference found with this power: (z(1-α/2) + z(power)) · SE."""
    from scipy.stats import norm as normal

    return float((normal.ppf(1 - alpha / 2) + normal.ppf(power)) * standard_error)
