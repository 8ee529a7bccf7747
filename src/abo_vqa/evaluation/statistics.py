"""Intervals and tests that know several rows share an image.

Rows of one image aren't independent: everything here resamples or flips whole images ("clusters").
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Whole = NDArray[np.int64]

BLOCK = 1000  # resamples at a time: bounds memory, doesn't change results
_CELLS = 1_000_000  # and so many draws: several arrays of this size are made


def _per_cluster(values: Floats, clusters: Whole) -> tuple[Floats, Floats]:
    """Sums [G, M] and counts [G, M] of values [n, M] within clusters; NaN isn't counted."""
    groups = int(clusters.max()) + 1 if len(clusters) else 0
    known = ~np.isnan(values)
    sums, counts = np.zeros((groups, values.shape[1])), np.zeros((groups, values.shape[1]))
    np.add.at(sums, clusters, np.where(known, values, 0.0))
    np.add.at(counts, clusters, known.astype(np.float64))
    return sums, counts


def _block_size(groups: int) -> int:
    """Resamples of so many clusters at a time."""
    return max(1, min(BLOCK, _CELLS // max(1, groups)))


def _draws(groups: int, resamples: int, seed: int) -> Iterator[tuple[slice, Floats]]:
    """How often each of G clusters is drawn in resamples with replacement: blocks of [rows, G]."""
    rng = np.random.default_rng(seed)
    size = _block_size(groups)
    for start in range(0, resamples, size):
        rows = min(size, resamples - start)
        drawn = rng.integers(0, groups, size=(rows, groups))
        flat = (drawn + groups * np.arange(rows)[:, None]).ravel()
        counts = np.bincount(flat, minlength=rows * groups).reshape(rows, groups)
        yield slice(start, start + rows), counts.astype(np.float64)


def bootstrap(values: Floats, clusters: Whole, resamples: int, seed: int) -> Floats:
    """Means under resampling of clusters with replacement (Efron & Tibshirani, 1993, ch. 8).

    With W [R, G] how often each cluster is drawn, S and N [G, M] the sums and counts within
    clusters, all resampled means are two matrix products: (W S) / (W N).

    Args:
        values: [n, M] one column a model and metric; NaN where a row has no score.
        clusters: [n] number of each row's image.
    Returns:
        [R, M] resampled means; NaN where a resample has no score at all.
    """
    sums, counts = _per_cluster(values, clusters)
    if (counts == counts[:, :1]).all():  # nothing missing: one column of counts will do
        counts = counts[:, :1]
    means = np.empty((values.shape[1], resamples)).T  # columns in one piece: they are sorted later
    with np.errstate(invalid="ignore"):
        for block, weights in _draws(len(sums), resamples, seed):
            means[block] = (weights @ sums) / (weights @ counts)
    return means


def bootstrap_slices(
    values: Floats, inside: NDArray[np.bool_], clusters: Whole, resamples: int, seed: int
) -> Floats:
    """The bootstrap of means within parts of the rows.

    Args:
        values: [n, M], no NaN. inside: [n, K] which rows each part has.
    Returns:
        [R, K * M], a part's M columns together; NaN where a resample has no row of a part.
    """
    parts, models = inside.shape[1], values.shape[1]
    cells = (inside[:, :, None] * values[:, None, :]).reshape(len(values), -1)  # [n, K * M]
    sums, _ = _per_cluster(cells, clusters)
    counts, _ = _per_cluster(inside.astype(np.float64), clusters)
    means = np.empty((parts * models, resamples)).T
    with np.errstate(invalid="ignore"):
        for block, weights in _draws(len(sums), resamples, seed):
            drawn = (weights @ sums).reshape(-1, parts, models) / (weights @ counts)[:, :, None]
            means[block] = drawn.reshape(len(drawn), -1)
    return means


def interval(means: Floats, confidence: float) -> Floats:
    """[M, 2] percentile interval of resampled means [R, M] (Efron & Tibshirani, 1993, ch. 13).

    With a = 1 - confidence, from the a/2 to the 1 - a/2 quantile of a column; NaNs are left out.
    """
    ordered = np.sort(means.T, axis=1)  # [M, R], NaNs last
    last = (~np.isnan(ordered)).sum(axis=1) - 1
    tail = (1 - confidence) / 2
    bounds = np.full((len(ordered), 2), np.nan)
    known = np.flatnonzero(last >= 0)
    for side, level in enumerate((tail, 1 - tail)):
        place = level * last[known]  # between two of the ordered values: interpolated
        below = np.floor(place).astype(int)
        above = np.minimum(below + 1, last[known])
        low, high = ordered[known, below], ordered[known, above]
        bounds[known, side] = low + (place - below) * (high - low)
    return bounds


def wilson(right: float, n: int, confidence: float) -> tuple[float, float]:
    """Score interval of a share p of n (Wilson, 1927): also of use where all or none are right.

    (p + z²/2n ± z √(p (1 - p)/n + z²/4n²)) / (1 + z²/n) with z a normal quantile.
    """
    from scipy.stats import norm as normal

    z = float(normal.ppf(0.5 + confidence / 2))
    share = right / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def permutation_p(differences: Floats, clusters: Whole, resamples: int, seed: int) -> Floats:
    """Two-sided p of paired differences [n, P], by flipping the sign of whole clusters.

    Under the null hypothesis the two models' labels can be swapped for all rows of an image at
    once (Good, 2005, ch. 3). p = (1 + hits) / (1 + resamples) (Phipson & Smyth, 2010), a hit being
    |sum of s_g D_g| >= |sum of D_g| with D_g the sum within an image and s_g = ±1 at random.
    """
    sums, _ = _per_cluster(differences, clusters)
    rng = np.random.default_rng(seed)
    observed = np.abs(sums.sum(0))
    hits = np.zeros(differences.shape[1])
    size = _block_size(len(sums))
    for start in range(0, resamples, size):
        rows = min(size, resamples - start)
        signs = rng.integers(0, 2, size=(rows, len(sums))) * 2.0 - 1.0
        hits += (np.abs(signs @ sums) >= observed - 1e-9).sum(0)  # ties are hits, also by rounding
    return np.asarray((1 + hits) / (1 + resamples))


def mcnemar_p(a: Floats, b: Floats) -> float:
    """Exact McNemar test (McNemar, 1947) of two models' 0/1 scores [n] on the same rows.

    Under the null hypothesis the b + c rows that only one of them has right are evenly shared:
    min(1, 2 P(X <= min(b, c))) with X from Binomial(b + c, 1/2). It takes rows as independent.
    """
    from scipy.stats import binomtest

    only_a, only_b = int(((a == 1) & (b == 0)).sum()), int(((a == 0) & (b == 1)).sum())
    if only_a + only_b == 0:
        return 1.0
    return float(binomtest(only_a, only_a + only_b).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (Holm, 1979): the chance of any false alarm stays below alpha.

    The i-th smallest of m p-values becomes max over j <= i of min(1, (m - j + 1) p_j).
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    stepped = np.maximum.accumulate(np.asarray(p_values)[order] * factors)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(stepped, 1.0)
    return [float(p) for p in adjusted]


def detectable(standard_error: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """Smallest true difference found with this power (Cohen, 1988): (z(1-α/2) + z(power)) · SE."""
    from scipy.stats import norm as normal

    return float((normal.ppf(1 - alpha / 2) + normal.ppf(power)) * standard_error)
