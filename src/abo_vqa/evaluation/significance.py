"""Significance of paired differences, with rows of one image kept together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import norm

from abo_vqa.evaluation.intervals import cluster_sums
from abo_vqa.evaluation.resampling import drawn_signs, drawn_totals

if TYPE_CHECKING:
    from abo_vqa.evaluation.intervals import Floats, Integers

_ALPHA, _POWER = 0.05, 0.8  # of the detectable difference


def permutation_p(differences: Floats, clusters: Integers, resamples: int, seed: int) -> Floats:
    """Two-sided p-values of paired differences, by flipping the sign of whole clusters.

    Under the null hypothesis the two models' labels can be swapped for all rows of an image at
    once (Good, 2005, ch. 3). p = (1 + hits) / (1 + resamples) (Phipson & Smyth, 2010), a hit being
    |sum of s_g D_g| >= |sum of D_g| with D_g the sum within an image and s_g = ±1 at random.

    Args:
        differences: [n, P], one column per pair of models.
        clusters: [n], the number of each row's image.
        resamples: number of random sign vectors.
        seed: seed of the random generator.

    Returns:
        [P] p-values.
    """
    sums, _ = cluster_sums(differences, clusters)
    observed = np.abs(sums.sum(0))
    hits = np.zeros(differences.shape[1])
    for signs in drawn_signs(len(sums), resamples, seed):
        totals = np.abs(drawn_totals(signs, sums))
        hits += (totals >= observed - 1e-9).sum(0)  # ties are hits, also by rounding
    return np.asarray((1 + hits) / (1 + resamples))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (Holm, 1979): the chance of any false alarm stays below alpha.

    The i-th smallest of m p-values becomes max over j <= i of min(1, (m - j + 1) p_j).

    Args:
        p_values: the p-values of m tests.

    Returns:
        The adjusted p-values, in the same order.
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    stepped = np.maximum.accumulate(np.asarray(p_values)[order] * factors)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(stepped, 1.0)
    return [float(p) for p in adjusted]


def detectable_difference(standard_error: float) -> float:
    """Smallest true difference that a test at level 5% finds with a power of 80% (Cohen, 1988).

    (z(1 - alpha/2) + z(power)) times the standard error, with z the normal quantile.

    Args:
        standard_error: of the difference.

    Returns:
        The difference, in the standard error's unit.
    """
    return float((norm.ppf(1 - _ALPHA / 2) + norm.ppf(_POWER)) * standard_error)
