"""Scores, intervals and slices of any table of answers and predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from abo_vqa.data.normalise import same_answer
from abo_vqa.data.questions import question_type
from abo_vqa.evaluation.clusters import image_clusters
from abo_vqa.evaluation.distinct_pairs import distinct_pairs
from abo_vqa.evaluation.intervals import bootstrap_means, certain_interval, percentile_interval
from abo_vqa.evaluation.pair_scores import score_pairs
from abo_vqa.evaluation.slices import slice_accuracy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from abo_vqa.core.config import Config


def score_table(
    rows: pd.DataFrame, metrics: Sequence[str], config: Config, device: str = "cpu"
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Compute metrics of a table's rows.

    Args:
        rows: answer, prediction and error; a row with an error has no scores.
        metrics: names of `METRIC_NAMES`, or "accuracy".
        config: the neural metrics' models.
        device: where the neural metrics are computed.

    Returns:
        A column per metric, in the rows' order; and the metrics' signatures.
    """
    pairs = distinct_pairs([rows])
    names = dict.fromkeys("exact_match" if name == "accuracy" else name for name in metrics)
    scores = score_pairs(pairs.pairs, list(names), scorers=config.scorers, device=device)
    columns, signature = scores.columns(pairs.positions[0]), dict(scores.signature)
    if "accuracy" in metrics:
        columns["accuracy"] = np.nan_to_num(columns["exact_match"])
        signature["accuracy"] = "equal after normalisation, empty = 0; a failed row is wrong"
    table = pd.DataFrame({name: columns[name] for name in metrics})
    return table, {name: signature[name] for name in metrics}


def summarise_table(rows: pd.DataFrame, scored: pd.DataFrame, config: Config) -> dict[str, Any]:
    """Average a table's scores.

    Args:
        rows: answer, prediction, error and, if known, image_path and question.
        scored: as `score_table` returns it.
        config: resamples, confidence and seed.

    Returns:
        "rows", "answered", "accuracy" (failed rows count as wrong) if accuracy or exact match was
        computed; "resampled", images or rows; and "metrics": metric → mean over answered rows
        with its interval, for metrics with at least one score. With questions, also
        "question_types": accuracy by type, as `slice_accuracy` returns it.
    """
    settings = config.evaluate
    values = scored.to_numpy(dtype=float)
    clusters = image_clusters(rows)
    means = bootstrap_means(values, clusters, settings.resamples, config.seed)
    bounds = percentile_interval(means, settings.confidence).tolist()
    metrics = {}
    for name, column, interval in zip(scored, values.T, bounds, strict=True):
        known = ~np.isnan(column)
        if known.any():
            low, high = _reliable_interval(
                column[known], clusters[known], interval, settings.confidence
            )
            metrics[str(name)] = {"mean": float(column[known].mean()), "low": low, "high": high}
    answered = int((rows["error"] == "").sum())
    summary: dict[str, Any] = {"rows": len(rows), "answered": answered}
    headline = next((name for name in ("accuracy", "exact_match") if name in scored), None)
    if headline:
        summary["accuracy"] = float(scored[headline].fillna(0.0).mean())
    summary["resampled"] = "images" if "image_path" in rows else "rows"
    summary["metrics"] = metrics
    if "question" in rows and answered:
        table = add_accuracy(rows)
        cut = slice_accuracy({"table": table}, clusters, config, ("question_type",))
        summary["question_types"] = cut["table"]["question_type"]
    return summary


def add_accuracy(rows: pd.DataFrame) -> pd.DataFrame:
    """Add to a table what its figures and slices need.

    Args:
        rows: answer, prediction, error and, if known, question.

    Returns:
        The rows with accuracy, a failed row as wrong, and question_type if there are questions.
    """
    correct = [same_answer(p, a) for p, a in zip(rows["prediction"], rows["answer"], strict=True)]
    table = rows.assign(accuracy=np.where(rows["error"] == "", correct, 0.0))
    if "question" in table:
        table["question_type"] = [question_type(question) for question in table["question"]]
    return table


def _reliable_interval(
    values: NDArray[np.float64],
    clusters: NDArray[np.int64],
    bootstrapped: tuple[float, float],
    confidence: float,
) -> tuple[float | None, float | None]:
    """The interval of a metric's mean where there can be one, else (None, None).

    Resampled values that are all 1, or all 0, would claim certainty: proportions of so few images
    get Wilson's interval. There is none for a single image, or for equal values that are no
    proportions.

    Args:
        values: [n], the scores of the rows that have one.
        clusters: [n], the number of each row's image.
        bootstrapped: the bootstrap's interval.
        confidence: e.g. 0.95.
    """
    images = len(np.unique(clusters))
    if images > 1 and np.ptp(values) > 0:
        return bootstrapped
    certain = certain_interval(values, clusters, confidence) if images > 1 else None
    return certain or (None, None)
