"""What kinds of answers are wrong, and by how much: yes and no, counts, long answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from abo_vqa.core.proportions import wilson_interval
from abo_vqa.data.normalise import normalise
from abo_vqa.data.questions import parse_number
from abo_vqa.evaluation.intervals import bootstrap_means, percentile_interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from abo_vqa.core.config import Config

# Bins of an answer's length in characters: name, shortest, longest.
_LENGTHS = (("1–3", 0, 3), ("4–5", 4, 5), ("6–7", 6, 7), ("8–9", 8, 9), ("10+", 10, 10**6))
_LARGEST_ERROR = 4  # counts that are off by more are counted with these


def yes_no_recall(table: pd.DataFrame) -> dict[str, float]:
    """Recall on "yes" and on "no": a model that always agrees has 1 and 0.

    Args:
        table: one model's scores.

    Returns:
        "yes_n", "no_n"; "yes_recall", "no_recall" where there are such rows; with both, also
        "balanced_accuracy" and "yes_share", the share of "yes" among the predictions.
    """
    answers = np.array([normalise(a) for a in table["answer"]])
    correct = table["accuracy"].to_numpy(dtype=float)
    results: dict[str, float] = {}
    for value in ("yes", "no"):
        mask = answers == value
        results[f"{value}_n"] = int(mask.sum())
        if mask.any():
            results[f"{value}_recall"] = float(correct[mask].mean())
    if {"yes_recall", "no_recall"} <= set(results):
        results["balanced_accuracy"] = (results["yes_recall"] + results["no_recall"]) / 2
        predictions = np.array([normalise(p) for p in table["prediction"]])
        either = np.isin(answers, ("yes", "no"))
        results["yes_share"] = float((predictions[either] == "yes").mean())
    return results


def counting_errors(table: pd.DataFrame, level: float = 0.95) -> dict[str, Any]:
    """How far off the numbers are, on counting questions.

    Args:
        table: one model's scores.
        level: confidence level of Wilson's intervals, which take rows as independent.

    Returns:
        "n" answered questions, "not_a_number" of the answers; where there are numbers, the shares
        "exact" and "within_one" and the "mean_absolute_error" (of numbers). And "errors", the
        distribution of predicted minus expected number over all counting questions, failed ones
        included: [{"error", "n", "share", "low", "high"}], with -4 and 4 for all beyond, and None
        for an answer that is no number.
    """
    rows = table[table["question_type"] == "counting"]
    predicted = _numbers(rows["prediction"])
    expected = _numbers(rows["answer"])
    errors = predicted - expected  # NaN where one of them isn't a number
    answered = np.asarray(rows["error"] == "", dtype=np.bool_)
    off = np.abs(errors[answered])
    off = off[~np.isnan(off)]
    n = int(answered.sum())
    results: dict[str, Any] = {"n": n, "not_a_number": n - len(off)}
    if len(off):
        results |= {
            "exact": float((off == 0).sum() / n),
            "within_one": float((off <= 1).sum() / n),
            "mean_absolute_error": float(off.mean()),
        }
    results["errors"] = _error_distribution(errors[~np.isnan(expected)], level)
    return results


def _numbers(texts: pd.Series) -> NDArray[np.float64]:
    """[n] the numbers that answers name; NaN where they name none."""
    numbers = (parse_number(normalise(text)) for text in texts)
    return np.array([np.nan if value is None else value for value in numbers], dtype=np.float64)


def _error_distribution(errors: NDArray[np.float64], level: float) -> list[dict[str, Any]]:
    """Shares of each error, largest errors together, with Wilson's intervals."""
    clipped = np.clip(errors, -_LARGEST_ERROR, _LARGEST_ERROR)
    distribution = []
    for error, n in zip(*np.unique(clipped, return_counts=True), strict=True):  # NaN comes last
        low, high = wilson_interval(int(n), len(errors), level)
        distribution.append(
            {
                "error": None if np.isnan(error) else float(error),
                "n": int(n),
                "share": int(n) / len(errors),
                "low": low,
                "high": high,
            }
        )
    return distribution


def f1_by_answer_length(
    scored: Mapping[str, pd.DataFrame], clusters: NDArray[np.int64], config: Config
) -> dict[str, list[dict[str, Any]]]:
    """Mean F1 by the expected answer's length in characters, bootstrapped over images.

    Args:
        scored: model → its scores of the same rows.
        clusters: [n] the number of each row's image.
        config: resamples, confidence and seed.

    Returns:
        Model → [{"characters", "n", "f1", "low", "high"}], shortest answers first; lengths
        without a score are left out.
    """
    columns: list[NDArray[Any]] = []
    parts: list[tuple[str, dict[str, Any]]] = []
    for model, table in scored.items():
        lengths, f1 = table["answer"].str.len(), table["f1"].astype(float)
        for name, shortest, longest in _LENGTHS:
            inside = lengths.between(shortest, longest)
            if f1[inside].notna().any():
                columns.append(f1.where(inside).to_numpy(dtype=np.float64))
                mean = float(f1[inside].mean())
                parts.append((model, {"characters": name, "n": int(inside.sum()), "f1": mean}))
    results: dict[str, list[dict[str, Any]]] = {model: [] for model in scored}
    if not parts:
        return results
    settings = config.evaluate
    means = bootstrap_means(columns, clusters, settings.resamples, config.seed)
    bounds = percentile_interval(means, settings.confidence).tolist()
    for (model, part), (low, high) in zip(parts, bounds, strict=True):
        results[model].append({**part, "low": low, "high": high})
    return results
