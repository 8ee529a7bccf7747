"""Shares of right answers: an interval, and the paired test of two models on the same rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scipy.stats import binomtest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a proportion (1927); also useful when all or none succeed.

    Args:
        successes: a whole number; scipy refuses fractions.
        trials: at least 1.
        confidence: e.g. 0.95.

    Returns:
        The interval's bounds, within 0 and 1.
    """
    interval = binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def mcnemar_p(a: NDArray[np.number[Any]], b: NDArray[np.number[Any]]) -> float:
    """Exact McNemar test (McNemar, 1947), which takes rows as independent.

    Under the null hypothesis the b + c rows that only one of the models has right are evenly
    shared: min(1, 2 P(X <= min(b, c))) with X from Binomial(b + c, 1/2).

    Args:
        a: [n], one model's scores, 0 or 1.
        b: [n], another model's scores of the same rows.

    Returns:
        The p-value; 1 if the models are right on the same rows.
    """
    only_a, only_b = int(((a == 1) & (b == 0)).sum()), int(((a == 0) & (b == 1)).sum())
    if only_a + only_b == 0:
        return 1.0
    return float(binomtest(only_a, only_a + only_b).pvalue)
