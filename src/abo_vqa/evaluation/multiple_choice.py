"""Multiple-choice accuracy of a model's answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from abo_vqa.evaluation.clusters import image_clusters
from abo_vqa.evaluation.intervals import bootstrap_means, percentile_interval

if TYPE_CHECKING:
    import pandas as pd

    from abo_vqa.core.config import Config


@dataclass(frozen=True)
class ChoiceAccuracy:
    """Accuracy over all rows; a failed row is wrong.

    Attributes:
        accuracy: share of rows whose right choice was the likeliest.
        low: lower bound of its bootstrap interval over images.
        high: upper bound.
        chance: expected accuracy of guessing.
        rows: number of rows.
        failed: rows without an answer.
    """

    accuracy: float
    low: float
    high: float
    chance: float
    rows: int
    failed: int


def choice_accuracy(rows: pd.DataFrame, answers: pd.DataFrame, config: Config) -> ChoiceAccuracy:
    """Score answers to multiple-choice questions.

    Args:
        rows: as in `ChoiceSet.rows`.
        answers: prediction and error, in the same order.
        config: resamples, confidence and seed.

    Returns:
        Accuracy with its interval.
    """
    correct = (answers["prediction"] == rows["answer_text"]) & (answers["error"] == "")
    values = np.asarray(correct, dtype=np.float64)[:, None]
    settings = config.evaluate
    means = bootstrap_means(values, image_clusters(rows), settings.resamples, config.seed)
    ((low, high),) = percentile_interval(means, settings.confidence).tolist()
    return ChoiceAccuracy(
        accuracy=float(values.mean()),
        low=low,
        high=high,
        chance=float(np.mean([1 / len(choices) for choices in rows["choices"]])),
        rows=len(rows),
        failed=int((answers["error"] != "").sum()),
    )
