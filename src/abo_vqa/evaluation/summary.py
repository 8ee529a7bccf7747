"""Means, intervals and headlines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from abo_vqa.config import Config
from abo_vqa.core.errors import UserError
from abo_vqa.evaluation.scoring import metric_columns
from abo_vqa.evaluation.statistics import bootstrap, interval

if TYPE_CHECKING:
    from numpy.typing import NDArray
from abo_vqa.core.paths import ADAPTER, BASELINES, BLIND


def summarise(scored: Mapping[str, pd.DataFrame], blind: str) -> dict[str, dict[str, float]]:
    """metrics.json: means over the test rows, the headline first; every value is a number."""
    best_blind = float(scored[blind]["accuracy"].mean())
    found = {}
    for model, table in scored.items():
        # A model whose every row failed has an accuracy, 0, and no other score.
        names = [name for name in metric_columns(table) if table[name].notna().any()]
        means = {name: float(table[name].mean()) for name in names}
        accuracy = means.pop("accuracy")
        found[model] = {
            "accuracy": accuracy,
            "gain_over_blind": accuracy - best_blind,
            **means,
            "coverage": float((table["error"] == "").mean()),
            "n": len(table),
        }
    return found


def intervals(
    scored: Mapping[str, pd.DataFrame], clusters: NDArray[np.int64], config: Config
) -> dict[str, dict[str, list[float]]]:
    """model → metric → [low, high]: bootstrapped over images, the same resamples for all."""
    names = metric_columns(next(iter(scored.values())))
    values = np.column_stack([table[names].to_numpy(dtype=float) for table in scored.values()])
    means = bootstrap(values, clusters, config.evaluate.resamples, config.seed)
    bounds = interval(means, config.evaluate.confidence).reshape(len(scored), len(names), 2)
    return {
        model: {
            name: row.tolist()
            for name, row in zip(names, rows, strict=True)
            if not np.isnan(row).any()
        }
        for model, rows in zip(scored, bounds, strict=True)
    }


def best_blind(scored: Mapping[str, pd.DataFrame]) -> str:
    """The blind model with the highest accuracy on the test rows (the hardest to beat).

    Raises:
        UserError: there is none, hence nothing to gain over.
    """
    blind = [model for model in scored if model.startswith("blind-")]
    if not blind:
        raise UserError("no blind baseline to compare with: add blind to baselines.models.")
    return max(blind, key=lambda model: float(scored[model]["accuracy"].mean()))


def headline(metrics: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """What whole experiments are compared by: the fine-tuned model, and every model's accuracy."""
    own = metrics["finetuned"]
    chosen = {name: own[name] for name in ("accuracy", "gain_over_blind")}
    return chosen | {f"{model}/accuracy": found["accuracy"] for model, found in metrics.items()}


def results(metrics: Mapping[str, Mapping[str, float]], blind: str) -> dict[str, dict[str, float]]:
    """Accuracies by the folder that was tested; of the blind models' only one, the best one's."""
    folders = {model: BASELINES / model for model in metrics}
    folders |= {"finetuned": ADAPTER, blind: BLIND}
    return {
        folders[model].as_posix(): {
            name: found[name] for name in ("accuracy", "gain_over_blind", "coverage")
        }
        for model, found in metrics.items()
        if model == blind or not model.startswith("blind-")
    }
