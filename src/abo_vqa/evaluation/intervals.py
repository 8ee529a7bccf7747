"""Confidence intervals: the cluster bootstrap over images, and Wilson's for a proportion.

Rows of one image aren't independent, so the bootstrap resamples whole images ("clusters").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import norm

from abo_vqa.core.proportions import wilson_interval
from abo_vqa.evaluation.resampling import SliceSums, drawn_counts, drawn_totals

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]


def cluster_sums(columns: Floats | Sequence[Floats], clusters: Integers) -> tuple[Floats, Floats]:
    """Sum values within clusters.

    Args:
        columns: [n, M], or M columns [n], which then needn't be in memory twice; NaN isn't counted.
        clusters: [n], numbers from 0 to G - 1.

    Returns:
        Sums [G, M] and counts [G, M].
    """
    groups = int(clusters.max()) + 1 if len(clusters) else 0
    columns = columns.T if isinstance(columns, np.ndarray) else columns
    sums, counts = np.zeros((groups, len(columns))), np.zeros((groups, len(columns)))
    for m, column in enumerate(columns):
        known = ~np.isnan(column)
        sums[:, m] = np.bincount(clusters, np.where(known, column, 0.0), minlength=groups)
        counts[:, m] = np.bincount(clusters, known, minlength=groups)
    return sums, counts


def bootstrap_means(
    values: Floats | Sequence[Floats], clusters: Integers, resamples: int, seed: int
) -> Floats:
    """Means under resampling of clusters with replacement (Efron & Tibshirani, 1993, ch. 8).

    With W [R, G] how often each cluster is drawn, and S and N [G, M] the sums and counts within
    clusters, all resampled means are two matrix products: (W S) / (W N).

    Args:
        values: [n, M], or M columns, one per model and metric; NaN where a row has no score.
        clusters: [n], the number of each row's image.
        resamples: R.
        seed: seed of the random generator.

    Returns:
        [R, M] resampled means; NaN where a resample has no score at all.
    """
    sums, counts = cluster_sums(values, clusters)
    if (counts == counts[:, :1]).all():  # no score is missing: one column of counts is enough
        counts = counts[:, :1]
    means = np.empty((sums.shape[1], resamples)).T  # contiguous columns: quantiles follow
    with np.errstate(invalid="ignore"):
        for block, drawn in drawn_counts(len(sums), resamples, seed):
            means[block] = drawn_totals(drawn, sums) / drawn_totals(drawn, counts)
    return means


def bootstrap_totals(sums: Floats, resamples: int, seed: int) -> Floats:
    """Totals under resampling of clusters, for statistics that are no means.

    Args:
        sums: [G, K], what each cluster adds.
        resamples: R.
        seed: seed of the random generator.

    Returns:
        [R, K].
    """
    totals = np.empty((resamples, sums.shape[1]))
    for block, drawn in drawn_counts(len(sums), resamples, seed):
        totals[block] = drawn_totals(drawn, sums)
    return totals


def bootstrap_slice_means(
    values: Floats, slices: Sequence[Integers], clusters: Integers, resamples: int, seed: int
) -> Floats:
    """The bootstrap of means within slices of the rows.

    Args:
        values: [n, M], without NaN.
        slices: K of them, each the positions of its rows.
        clusters: [n], the number of each row's image.
        resamples: R.
        seed: seed of the random generator.

    Returns:
        [R, K * M], a slice's M columns together; NaN where a resample has no row of a slice.
    """
    models = values.shape[1]
    groups = int(clusters.max()) + 1 if len(clusters) else 0
    sums = SliceSums(values, slices, clusters, groups)
    means = np.empty((len(slices), models, resamples))  # contiguous columns: quantiles follow
    with np.errstate(invalid="ignore"):
        for block, drawn in drawn_counts(groups, resamples, seed):
            totals = sums.totals(drawn)
            np.divide(totals[1:], totals[:1], out=means[..., block].transpose(1, 0, 2))
    return means.reshape(-1, resamples).T


def percentile_interval(means: Floats, confidence: float) -> Floats:
    """The percentile interval (Efron & Tibshirani, 1993, ch. 13).

    With a = 1 - confidence, from the a/2 to the 1 - a/2 quantile of each column.

    Args:
        means: [R, M] resampled means; NaN is left out.
        confidence: e.g. 0.95.

    Returns:
        [M, 2]; NaN for a column that holds nothing else.
    """
    tail = (1 - confidence) / 2
    bounds = np.full((means.shape[1], 2), np.nan)
    missing = np.isnan(means)
    for columns, quantile in (
        (~missing.any(axis=0), np.quantile),  # all at once
        (missing.any(axis=0) & ~missing.all(axis=0), np.nanquantile),
    ):
        if columns.any():
            bounds[columns] = quantile(means[:, columns], [tail, 1 - tail], axis=0).T
    return bounds


def certain_interval(
    values: Floats, clusters: Integers, confidence: float
) -> tuple[float, float] | None:
    """Interval of a proportion whose values are all 1, or all 0, where resampling fails.

    The bootstrap would claim certainty. Wilson's interval has as many trials as there are clusters,
    as if all rows of a cluster were one: nothing in such values tells how alike they are.

    Args:
        values: [n]; NaN isn't counted.
        clusters: [n], the number of each row's image.
        confidence: e.g. 0.95.

    Returns:
        The interval's bounds; None if the values differ, or are neither 0 nor 1.
    """
    known = ~np.isnan(values)
    distinct = set(np.unique(values[known]).tolist())
    if distinct not in ({0.0}, {1.0}):
        return None
    trials = len(np.unique(clusters[known]))
    return wilson_interval(trials if distinct == {1.0} else 0, trials, confidence)


def clustered_wilson_interval(
    values: Floats, clusters: Integers, confidence: float
) -> tuple[float, float]:
    """Wilson's interval of a share, for rows that come in clusters (Dean & Pagano, 2015).

    The number of trials is the effective one: n over the design effect (Kish, 1965), which is the
    variance of the share between clusters over that of independent rows, and at least 1. Unlike the
    percentile bootstrap, it holds for the small shares of a few dozen images.

    Args:
        values: [n], from 0 to 1; at least one.
        clusters: [n], numbers from 0 to G - 1.
        confidence: e.g. 0.95.

    Returns:
        The interval's bounds, within 0 and 1.
    """
    if certain := certain_interval(values, clusters, confidence):
        return certain
    n, share = len(values), float(values.mean())
    sums, counts = (part[:, 0] for part in cluster_sums(values[:, None], clusters))
    groups = len(sums)
    if groups < 2:
        return 0.0, 1.0  # one image tells nothing of the others
    between = groups / (groups - 1) * float(((sums - share * counts) ** 2).sum()) / n**2
    trials = n / max(1.0, between / (share * (1 - share) / n))
    z = float(norm.ppf((1 + confidence) / 2))
    centre = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    spread = z / (1 + z**2 / trials)
    spread *= float(np.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2)))
    return max(0.0, centre - spread), min(1.0, centre + spread)


def learning_curve_intervals(
    training: Mapping[str, Any], confidence: float
) -> list[tuple[float, float]]:
    """Wilson intervals of the validation accuracy after each epoch.

    They treat the held-out rows as independent.

    Args:
        training: the content of training.json.
        confidence: e.g. 0.95.

    Returns:
        One interval per epoch; none if no row was held out.
    """
    held_out = training.get("held_out_rows")
    if not held_out:
        return []
    accuracies = [epoch["validation_accuracy"] for epoch in training.get("epochs", [])]
    return [wilson_interval(round(a * held_out), held_out, confidence) for a in accuracies]
