"""The label-noise ceiling: how much of the test set can be right, from what people found wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from abo_vqa.evaluation.intervals import clustered_wilson_interval


def label_noise_ceiling(
    reviews: Mapping[str, Any], test: pd.DataFrame, confidence: float
) -> dict[str, Any]:
    """Return the accuracy of a model whose every answer is right.

    If a share w of the answers is wrong, it can't agree with these: its accuracy is 1 - w. Rows
    that people kept or corrected are right; w is the share of wrong answers among the reviewed
    pairs that the filters of the stage `verify` keep as they were written. Those that were reviewed
    have to be drawn at random. See docs/metrics.md for what this takes for granted.

    Args:
        reviews: `reviews` of data/verification.json, and the number of raters.
        test: the test rows; a column `reviewed` says which of them people decided about.
        confidence: of the intervals.

    Returns:
        The ceiling with its interval, what it was computed from, and the share of wrong answers
        with its interval; {} if no pair that the filters keep was reviewed.
    """
    if not reviews.get("pairs"):
        return {}
    wrong, clusters = _reviewed_pairs(reviews)
    low, high = clustered_wilson_interval(wrong, clusters, confidence)
    reviewed = int((test["reviewed"] != "").sum()) if "reviewed" in test else 0
    unreviewed = 1 - reviewed / len(test)
    share = float(wrong.mean())
    return {
        "accuracy": 1 - unreviewed * share,
        "low": 1 - unreviewed * high,
        "high": 1 - unreviewed * low,
        "wrong": {"share": share, "low": low, "high": high},
        "pairs": reviews["pairs"],
        "images": int(clusters.max()) + 1,
        "raters": reviews["raters"],
        "left_out": reviews["left_out"],
        "reviewed_test_rows": reviewed,
        "confidence": confidence,
    }


def _reviewed_pairs(
    reviews: Mapping[str, Any],
) -> tuple[np.ndarray[Any, np.dtype[np.float64]], np.ndarray[Any, np.dtype[np.int64]]]:
    """Return how wrong each reviewed pair is, averaged over its image, and its image's number."""
    kinds = reviews["images"]
    pairs = np.repeat([kind["pairs"] for kind in kinds], [kind["images"] for kind in kinds])
    wrong = np.repeat([kind["wrong"] for kind in kinds], [kind["images"] for kind in kinds])
    return np.repeat(wrong / pairs, pairs), np.repeat(np.arange(len(pairs)), pairs)
