"""The one interval that a figure works out itself; all others come from evaluation."""

from __future__ import annotations

import math

import numpy as np

_Z = 1.959963984540054  # the normal's 97.5% quantile


def wilson(right: float, n: int) -> tuple[float, float]:
    """95% interval of a share (Wilson, 1927), sensible at 0, at 1 and for small n."""
    share = right / n
    centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return float(np.clip(centre - half, 0, 1)), float(np.clip(centre + half, 0, 1))
