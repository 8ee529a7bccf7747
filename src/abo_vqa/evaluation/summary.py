"""Means, intervals and headline numbers of score tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from abo_vqa.core.errors import UserError
from abo_vqa.core.paths import ADAPTER, BASELINES, BLIND, FINETUNED_MODEL, FINETUNED_RANKED
from abo_vqa.evaluation.intervals import bootstrap_means, certain_interval, percentile_interval
from abo_vqa.evaluation.scoring import metric_columns

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from abo_vqa.core.config import Config


def best_blind_model(scored: Mapping[str, pd.DataFrame]) -> str:
    """Return the blind model with the highest accuracy: the baseline that is hardest to beat.

    Args:
        scored: model → its scores of the test rows.

    Raises:
        UserError: there is no blind model, hence no gain.
    """
    blind = [model for model in scored if model.startswith("blind-")]
    if not blind:
        raise UserError("no blind baseline to compare with: add blind to baselines.models.")
    return max(blind, key=lambda model: float(scored[model]["accuracy"].mean()))


def primary_model(accuracies: Mapping[str, float]) -> str:
    """Return the model that analyses of a single model are about.

    Args:
        accuracies: model → its accuracy.

    Returns:
        The fine-tuned model; without one, the most accurate of the models that see the image, else
        of all.
    """
    if FINETUNED_MODEL in accuracies:
        return FINETUNED_MODEL
    seeing = [model for model in accuracies if not model.startswith("blind-")]
    return min(seeing or accuracies, key=lambda model: (-accuracies[model], model))


def mean_metrics(scored: Mapping[str, pd.DataFrame], blind: str) -> dict[str, dict[str, float]]:
    """Average the metrics over the test rows: the contents of metrics.json.

    Args:
        scored: model → its scores.
        blind: the best blind model.

    Returns:
        Model → metric → mean, the headline metrics first; every value is a number.
    """
    blind_accuracy = float(scored[blind]["accuracy"].mean())
    metrics = {}
    for model, table in scored.items():
        # A model whose rows all failed has an accuracy, 0, and no other score.
        names = [name for name in metric_columns(table) if table[name].notna().any()]
        means = {name: float(table[name].mean()) for name in names}
        accuracy = means.pop("accuracy")
        metrics[model] = {
            "accuracy": accuracy,
            "gain_over_blind": accuracy - blind_accuracy,
            **means,
            "coverage": float((table["error"] == "").mean()),
            "n": len(table),
        }
    return metrics


def metric_intervals(
    scored: Mapping[str, pd.DataFrame], clusters: NDArray[np.int64], config: Config
) -> dict[str, dict[str, list[float]]]:
    """Bootstrap every metric's mean over images, with the same resamples for all models.

    A metric that is 1 on every row, or 0, has Wilson's interval (`intervals.certain_interval`).

    Args:
        scored: model → its scores; all tables have the same rows.
        clusters: [n] the number of each row's image.
        config: resamples, confidence and seed.

    Returns:
        Model → metric → [low, high].
    """
    names = metric_columns(next(iter(scored.values())))
    values = [table[name].to_numpy(dtype=float) for table in scored.values() for name in names]
    level = config.evaluate.confidence
    means = bootstrap_means(values, clusters, config.evaluate.resamples, config.seed)
    bounds = percentile_interval(means, level)
    for column, interval in enumerate(bounds):
        if interval[0] == interval[1]:  # all rows right, or all wrong
            bounds[column] = certain_interval(values[column], clusters, level) or interval
    return {
        model: {
            name: interval.tolist()
            for name, interval in zip(names, intervals, strict=True)
            if not np.isnan(interval).any()
        }
        for model, intervals in zip(scored, bounds.reshape(len(scored), -1, 2), strict=True)
    }


def headline_metrics(metrics: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return what experiments are compared by: the fine-tuned model, and all accuracies.

    Args:
        metrics: as `mean_metrics` returns them.
    """
    finetuned = metrics[FINETUNED_MODEL]
    headline = {name: finetuned[name] for name in ("accuracy", "gain_over_blind")}
    return headline | {f"{model}/accuracy": means["accuracy"] for model, means in metrics.items()}


def metrics_by_folder(
    metrics: Mapping[str, Mapping[str, float]], blind: str
) -> dict[str, dict[str, float]]:
    """Return the accuracies by the folder whose contents were tested.

    Args:
        metrics: as `mean_metrics` returns them.
        blind: the best blind model; the others are left out.
    """
    folders = {model: BASELINES / model for model in metrics}
    folders |= {FINETUNED_MODEL: ADAPTER, blind: BLIND}
    return {
        folders[model].as_posix(): {
            name: means[name] for name in ("accuracy", "gain_over_blind", "coverage")
        }
        for model, means in metrics.items()
        # The adapter's folder has the accuracy of its free answers.
        if model == blind or not (model.startswith("blind-") or model == FINETUNED_RANKED)
    }
