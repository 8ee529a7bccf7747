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
    pairs that were drawn at random and that the filters of the stage `verify` keep as they were
    written. Mistakes that were found among suspicious pairs aren't in the other rows any more, so
    w is smaller there. See docs/metrics.md for the formula, and for what it takes for granted.

    Args:
        reviews: `reviews` of data/verification.json, and the number of raters.
        test: the test rows; a column `reviewed` says which of them people decided about.
        confidence: of the intervals.

    Returns:
        The ceiling with its interval, what it was computed from, and the share of wrong answers
        with its interval; {} if no random pair that the filters keep was reviewed. If suspicious
        pairs were reviewed, too, `suspicious` has their counts, and `remaining` the share of wrong
        answers among the rows that nobody reviewed. `skipped` says how many pairs are missing from
        the sample.
    """
    if not reviews.get("pairs"):
        return {}
    wrong, clusters = _reviewed_pairs(reviews)
    low, high = clustered_wilson_interval(wrong, clusters, confidence)
    reviewed = int((test["reviewed"] != "").sum()) if "reviewed" in test else 0
    unreviewed = 1 - reviewed / len(test)
    sampled = {"share": float(wrong.mean()), "low": low, "high": high}
    suspicious = reviews.get("suspicious")
    remaining = {name: _remaining(value, suspicious) for name, value in sampled.items()}
    return {
        "accuracy": 1 - unreviewed * remaining["share"],
        "low": 1 - unreviewed * remaining["high"],
        "high": 1 - unreviewed * remaining["low"],
        "wrong": sampled,
        **({"suspicious": dict(suspicious), "remaining": remaining} if suspicious else {}),
        "pairs": reviews["pairs"],
        "images": int(clusters.max()) + 1,
        "raters": reviews["raters"],
        "left_out": reviews["left_out"],
        **({"skipped": reviews["skipped"]} if reviews.get("skipped") else {}),
        "reviewed_test_rows": reviewed,
        "confidence": confidence,
    }


def _remaining(share: float, suspicious: Mapping[str, Any] | None) -> float:
    """Return the share of wrong answers among the rows that nobody reviewed (post-stratification).

    Before anybody looked at the suspicious pairs, these and the unreviewed rows together had as
    large a share of wrong answers as the random sample.

    Args:
        share: of wrong answers in the random sample.
        suspicious: `suspicious` of `reviews`; None if there are none.
    """
    if not suspicious:
        return share
    unreviewed = suspicious["unreviewed"]
    expected = (unreviewed + suspicious["pairs"]) * share - suspicious["wrong"]
    return min(1.0, max(0.0, expected / unreviewed)) if unreviewed else 0.0


def _reviewed_pairs(
    reviews: Mapping[str, Any],
) -> tuple[np.ndarray[Any, np.dtype[np.float64]], np.ndarray[Any, np.dtype[np.int64]]]:
    """Return how wrong each reviewed pair is, averaged over its image, and its image's number."""
    kinds = reviews["images"]
    pairs = np.repeat([kind["pairs"] for kind in kinds], [kind["images"] for kind in kinds])
    wrong = np.repeat([kind["wrong"] for kind in kinds], [kind["images"] for kind in kinds])
    return np.repeat(wrong / pairs, pairs), np.repeat(np.arange(len(pairs)), pairs)


def review_findings(
    verification: Mapping[str, Any], generation: Mapping[str, Any]
) -> dict[str, Any]:
    """Return how many reviewed, and what they found wrong of what the filters leave.

    Args:
        verification: the content of data/verification.json.
        generation: the content of data/generate.json.

    Returns:
        `Tables.reviews`; {} if nobody reviewed.
    """
    reviews = verification.get("reviews")
    if not reviews:
        return {}
    people = generation["reviews"]
    return {**reviews, "raters": people.get("random", people)["raters"]}
