"""Intervals for the few numbers a figure works out itself; all others come from evaluation."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

Z = 1.959963984540054  # the normal's 97.5% quantile


def clustered_mean(values: pd.Series, clusters: pd.Series) -> tuple[float, float, float]:
    """Mean of rows with a 95% interval that treats clusters (pictures) as the unit.

    Linearised variance of a ratio of cluster totals (Cochran, *Sampling Techniques*, 1977,
    eq. 9.13 without the finite population correction), clipped to the values' range.

    Returns:
        mean, low, high; the bounds are the mean itself for a single cluster.
    """
    mean = float(values.mean())
    residuals = (values - mean).groupby(clusters.to_numpy()).sum()
    n = len(residuals)
    if n < 2:
        return mean, mean, mean
    half = Z * math.sqrt(n / (n - 1) * float((residuals**2).sum())) / len(values)
    low, high = float(values.min()), float(values.max())
    return mean, max(mean - half, min(low, 0.0)), min(mean + half, max(high, 1.0))


def wilson(right: float, n: int) -> tuple[float, float]:
    """95% interval of a share (Wilson, 1927), sensible at 0, at 1 and for small n."""
    share = right / n
    centre = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return float(np.clip(centre - half, 0, 1)), float(np.clip(centre + half, 0, 1))
