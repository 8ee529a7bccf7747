"""The evaluation in a few small tables, and in one sentence, for MLflow's browser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from abo_vqa.core.paths import FINETUNED_MODEL
from abo_vqa.data.normalise import normalise
from abo_vqa.evaluation.summary import primary_model

if TYPE_CHECKING:
    from abo_vqa.evaluation.results import Evaluation

_ROWS = 200  # of a table of examples


def result_tables(evaluation: Evaluation) -> dict[str, dict[str, list[Any]]]:
    """Return the metrics by model, the accuracy by question type, and two lists of examples.

    Args:
        evaluation: the results.

    Returns:
        Columns by name, by the table's name: metrics_by_model, accuracy_by_question_type,
        confusions of the fine-tuned model, and changed_answers, which it has right where the best
        zero-shot model is wrong, or the other way round.
    """
    metrics = evaluation.metrics
    accuracies = {model: values["accuracy"] for model, values in metrics.items()}
    primary = primary_model(accuracies)
    tables = {
        "metrics_by_model": _metrics(metrics),
        "accuracy_by_question_type": _types(evaluation.details["slices"]),
        "confusions": _confusions(evaluation.scored[primary]),
    }
    if before := _best_zero_shot(accuracies):
        tables["changed_answers"] = _changes(evaluation.scored[before], evaluation.scored[primary])
    return tables


def describe_result(metrics: Mapping[str, Mapping[str, float]]) -> str:
    """Say in one sentence what came out.

    Args:
        metrics: as `summary.mean_metrics` returns them.
    """
    accuracies = {model: values["accuracy"] for model, values in metrics.items()}
    primary = primary_model(accuracies)
    values = metrics[primary]
    text = (
        f"{primary}: {values['accuracy']:.1%} of {values['n']:,} test rows, "
        f"{100 * values['gain_over_blind']:+.1f} points over the best blind baseline"
    )
    if before := _best_zero_shot(accuracies):
        text += f"; {before}, the best zero-shot model: {accuracies[before]:.1%}"
    return text


def _best_zero_shot(accuracies: Mapping[str, float]) -> str | None:
    """Return the best model that was neither fine-tuned nor blind, beside a fine-tuned one."""
    names = [name for name in accuracies if not name.startswith((FINETUNED_MODEL, "blind-"))]
    if FINETUNED_MODEL not in accuracies or not names:
        return None
    return min(names, key=lambda name: (-accuracies[name], name))


def _metrics(metrics: Mapping[str, Mapping[str, float]]) -> dict[str, list[Any]]:
    """One row a model, the most accurate first."""
    models = sorted(metrics, key=lambda model: -metrics[model]["accuracy"])
    names = list(dict.fromkeys(name for values in metrics.values() for name in values))
    columns: dict[str, list[Any]] = {"model": models}
    return columns | {name: [_rounded(metrics[m].get(name)) for m in models] for name in names}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _types(slices: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]) -> dict[str, list[Any]]:
    """One row a model and question type."""
    rows = [
        (model, part["value"], part["n"], *(_rounded(part[k]) for k in ("accuracy", "low", "high")))
        for model, by_column in slices.items()
        for part in by_column.get("question_type", ())
    ]
    names = ("model", "question_type", "rows", "accuracy", "low", "high")
    return {name: [row[at] for row in rows] for at, name in enumerate(names)}


def _confusions(scored: pd.DataFrame) -> dict[str, list[Any]]:
    """Pairs of an expected and another given answer, the most frequent first."""
    wrong = scored[(scored["accuracy"] == 0) & (scored["error"] == "")]
    pairs = pd.DataFrame(
        {"expected": wrong["answer"].map(normalise), "given": wrong["prediction"].map(normalise)}
    )
    counts = pairs.value_counts(sort=True).reset_index(name="rows")
    counts = counts.sort_values(["rows", "expected", "given"], ascending=[False, True, True])
    return {str(name): counts[name].head(_ROWS).tolist() for name in counts}


def _changes(before: pd.DataFrame, after: pd.DataFrame) -> dict[str, list[Any]]:
    """Rows that one model has right and the other wrong."""
    differs = (before["accuracy"] > 0).to_numpy() != (after["accuracy"] > 0).to_numpy()
    old, new = before[differs].head(_ROWS), after[differs].head(_ROWS)
    columns = {name: new[name].tolist() for name in ("image_path", "question", "answer")}
    columns |= {"zero_shot": old["prediction"].tolist(), "finetuned": new["prediction"].tolist()}
    gained = new["accuracy"] > 0
    return columns | {"change": ["now right" if right else "now wrong" for right in gained]}
