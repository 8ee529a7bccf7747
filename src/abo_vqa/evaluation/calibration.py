"""Whether a model knows when it is wrong: calibration, and risk against coverage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from abo_vqa.core.proportions import wilson_interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BINS = 10
_CURVE_POINTS = 100  # of the risk-coverage curve at most


def calibrate(table: pd.DataFrame, level: float = 0.95) -> dict[str, Any]:
    """Expected calibration error (Guo et al., 2017, equation 3), and the risk-coverage curve.

    Risk at a coverage (Geifman & El-Yaniv, 2017) is the share of wrong answers among the rows of
    highest confidence; rows of equal confidence enter together, so that their order doesn't
    matter.

    Args:
        table: one model's scores; rows without a confidence or with an error are left out.
        level: confidence level of Wilson's intervals, which take rows as independent.

    Returns:
        "n", "expected_calibration_error", "bins", "risk_coverage" and
        "area_under_risk_coverage"; nothing for a model that gives no confidence.
    """
    rated = table[table["confidence"].notna() & (table["error"] == "")]
    if rated.empty:
        return {}
    confidence = rated["confidence"].to_numpy(dtype=float)
    correct = rated["accuracy"].to_numpy(dtype=float)
    bins = _reliability_bins(confidence, correct, level)
    error = sum(b["n"] * abs(b["confidence"] - b["accuracy"]) for b in bins) / len(rated)
    answered, wrong = risk_coverage_counts(confidence, correct)
    coverage, risk = answered / len(rated), wrong / answered
    points = min(_CURVE_POINTS, len(risk))
    positions = np.unique(np.linspace(0, len(risk) - 1, points).round().astype(int))
    curve = []
    for i in positions:
        low, high = wilson_interval(int(wrong[i]), int(answered[i]), level)
        curve.append(
            {"coverage": float(coverage[i]), "risk": float(risk[i]), "n": int(answered[i]),
             "low": low, "high": high}
        )  # fmt: skip
    return {
        "n": len(rated),
        "expected_calibration_error": float(error),
        "bins": bins,
        "risk_coverage": curve,
        "area_under_risk_coverage": float((risk * np.diff(coverage, prepend=0.0)).sum()),
    }


def _reliability_bins(
    confidence: NDArray[np.float64], correct: NDArray[np.float64], level: float
) -> list[dict[str, float]]:
    """Mean confidence and accuracy within bins of confidence; empty bins are left out."""
    bin_index = np.clip((confidence * _BINS).astype(int), 0, _BINS - 1)
    bins = []
    for b in np.unique(bin_index):
        inside = bin_index == b
        low, high = wilson_interval(int(correct[inside].sum()), int(inside.sum()), level)
        bins.append(
            {
                "low": float(b / _BINS),
                "high": float((b + 1) / _BINS),
                "n": int(inside.sum()),
                "confidence": float(confidence[inside].mean()),
                "accuracy": float(correct[inside].mean()),
                "accuracy_low": low,
                "accuracy_high": high,
            }
        )
    return bins


def risk_coverage_counts(
    confidence: NDArray[np.float64], correct: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count answered and wrong rows at each threshold of confidence.

    Args:
        confidence: [n].
        correct: [n], 0 or 1.

    Returns:
        Answered and wrong rows [K] down to each of the K distinct confidences, highest first.
    """
    levels, position = np.unique(-confidence, return_inverse=True)
    answered = np.cumsum(np.bincount(position, minlength=len(levels)))
    wrong = np.cumsum(np.bincount(position, weights=1 - correct, minlength=len(levels)))
    return answered, wrong.astype(np.int64)
