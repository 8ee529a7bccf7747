"""The tables of the report, as rows of numbers; templates only lay them out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from abo_vqa.core.nested import leaves
from abo_vqa.core.paths import FINETUNED_MODEL
from abo_vqa.reporting import study
from abo_vqa.reporting.formatting import count, decimal, model_kind, model_label, percent
from abo_vqa.reporting.inputs import Results, as_records

_Column = tuple[str, str, Callable[[float | None], str]]  # key, heading, formatter
MAX_ERROR_CARDS = 24
_MAX_CONFUSIONS = 12
_MAX_SLICE_ROWS = 12
_FRACTION_TOLERANCE = 0.005
_BOOLEANS = {"True": "yes", "False": "no"}
_SLICE_TITLES = {
    "question_type": "Question type",
    "question_subtype": "Question subtype",
    "answer_type": "Answer type",
    "answer_words": "Words in the answer",
    "product_type": "Product type (the largest)",
    "seen_pair": "Question and answer occur in train",
    "seen_question": "Question occurs in train",
    "answer_frequency": "Frequency of the answer in train",
    "image_rows": "Test questions about the image",
}
_ORDINAL = ("answer_words", "answer_frequency", "image_rows")  # from small to large, not by size
_EVALUATION_COLUMNS: dict[str, tuple[_Column, ...]] = {
    "yes_no": (
        ("yes_recall", "Recall on yes", percent),
        ("yes_n", "n", count),
        ("no_recall", "Recall on no", percent),
        ("no_n", "n", count),
    ),
    "counting": (
        ("n", "n", count),
        ("exact", "Exact", percent),
        ("within_one", "Within one", percent),
        ("mean_absolute_error", "Mean absolute error", decimal),
        ("not_a_number", "Not a number", count),
    ),
    "calibration": (
        ("n", "n", count),
        ("expected_calibration_error", "Expected calibration error", percent),
        ("area_under_risk_coverage", "Area under risk–coverage", decimal),
    ),
}
_AUDIT_LABELS = {
    "rows: train": "train rows",
    "rows: test": "test rows",
    "images: train": "train images",
    "images: test": "test images",
    "groups: count": "groups",
    "groups: largest images": "largest group, images",
    "groups: largest rows": "largest group, rows",
    "groups: with several images": "groups of several images",
    "shared: images": "images on both sides",
    "shared: products": "products on both sides",
    "shared: identical pictures": "identical images on both sides",
    "shared: near duplicate groups": "groups of near-duplicates on both sides",
    "hashes without content": "plain images, compared by their files' bytes alone",
    "unchecked: products": "images whose product isn't known",
    "unchecked: identical pictures": "images whose bytes aren't known",
    "unchecked: near duplicate groups": "images without a perceptual hash, not compared",
    "near duplicates: test images": "test images with a near-duplicate in train",
    "near duplicates: share": "as a share of the test images",
    "overlap: questions": "test rows whose question occurs in train",
    "overlap: pairs": "test rows whose question and answer occur in train",
    "types: largest difference": "largest difference in a product type's share",
}


def headline_rows(results: Results) -> list[dict[str, Any]]:
    """Return accuracy and gain over blind with their intervals, one row per model, best first."""
    rows = []
    for model in results.ranking:
        metrics = results.metrics[model]
        pair = results.pair(model, results.best_blind) if results.best_blind else None
        rows.append(
            {
                "name": model_label(model),
                "kind": model_kind(model),
                "accuracy": metrics["accuracy"],
                "interval": results.interval(model),
                "alias_accuracy": metrics.get("alias_accuracy"),
                "gain": metrics.get("gain_over_blind"),
                "gain_interval": (pair["low"], pair["high"]) if pair else None,
                "is_blind_best": model == results.best_blind,
                "coverage": metrics.get("coverage"),
            }
        )
    return rows


def primary_model_pairs(results: Results) -> list[dict[str, Any]]:
    """Return the primary model against each other one: difference, interval, tests, adjusted p."""
    pairs = [results.pair(results.primary_model, model) for model in results.other_models]
    return [{**pair, "name": model_label(pair["b"])} for pair in pairs if pair is not None]


def metric_table(results: Results) -> dict[str, Any]:
    """Return every metric with its interval: one row per metric, one column per model."""
    names = [n for n in results.metrics[results.ranking[0]] if n not in ("n", "gain_over_blind")]
    rows = [
        {
            "metric": name,
            "cells": [
                (results.metrics[model].get(name), results.interval(model, name))
                for model in results.ranking
            ],
        }
        for name in names
    ]
    return {"models": [model_label(model) for model in results.ranking], "rows": rows}


def study_rows(results: Results) -> list[dict[str, Any]]:
    """Return the study's whole Table 1, beside this run.

    The study measured baselines on samples of all rows, lower-cased only. Each of its values
    stands beside this run's on the same fraction of all rows, computed the study's way; then come
    the test rows.
    """
    rows = []
    for row in as_records(study.study_table()):
        model = row["model"]
        metrics = results.metrics.get(model, {})
        share = row["rows"] / study.STUDY_ROWS
        fractions: list[dict[str, Any]] = results.evaluation.get("fractions", {}).get(model, [])
        same_fraction: dict[str, Any] = next(
            (f for f in fractions if abs(f["fraction"] - share) < _FRACTION_TOLERANCE), {}
        )
        rows.append(
            {
                **row,
                "share": None if model == FINETUNED_MODEL else share,
                "own_lower_case": same_fraction.get("accuracy_lower_case_only"),
                "own_normalised": same_fraction.get("accuracy"),
                "own_accuracy": metrics.get("accuracy"),
                "interval": results.interval(model),
                "own_bertscore_f1": metrics.get("bertscore_f1"),
            }
        )
    return rows


def slice_tables(results: Results) -> list[dict[str, Any]]:
    """Return accuracy by slice of the primary model, the best zero-shot and the best blind one."""
    models = results.representatives
    tables = []
    for name, title in _SLICE_TITLES.items():
        values = {m: {str(p["value"]): p for p in results.slices(m, name)} for m in models}
        order = list(values[models[0]])
        if name in _ORDINAL:
            order.sort(key=lambda value: int(value.split("-")[0]))
        if len(order) > 1:
            rows = [
                {"value": _BOOLEANS.get(value, value.replace("_", " ")),
                 "n": values[models[0]][value]["n"],
                 "cells": [values[m].get(value) for m in models]}
                for value in order[:_MAX_SLICE_ROWS]
            ]  # fmt: skip
            tables.append({"title": title, "models": models, "rows": rows})
    return tables


def confused_pairs(results: Results) -> list[dict[str, Any]]:
    """Return the most frequent wrong answers of the primary model: answer, prediction, n."""
    scores = results.scores[results.primary_model]
    wrong = scores[scores["accuracy"].astype(float) < 1]
    counts = wrong.groupby(["answer", "prediction"]).size().rename("n").reset_index()
    counts = counts.sort_values(["n", "answer", "prediction"], ascending=[False, True, True])
    return as_records(counts.head(_MAX_CONFUSIONS))


def error_cards(results: Results) -> list[dict[str, Any]]:
    """Return wrong answers to look at: the most confident ones, question types in turn."""
    scores = results.scores[results.primary_model]
    wrong = scores[(scores["accuracy"].astype(float) < 1) & (scores["error"] == "")]
    wrong = wrong.sort_values("confidence", ascending=False, kind="stable")
    turn = wrong.groupby("question_type").cumcount()
    ordered = wrong.assign(turn=turn).sort_values(["turn", "question_type"], kind="stable")
    others = [model for model in results.other_models if model_kind(model) != "blind"]
    accuracy = {m: results.scores[m].set_index("row_id")["accuracy"].astype(float) for m in others}
    cards = []
    for row in as_records(ordered.head(MAX_ERROR_CARDS)):
        right = [model_label(m) for m in others if accuracy[m].get(row["row_id"], 0) == 1]
        cards.append({**row, "others_right": right, "others": len(others)})
    return cards


def labelled_leaves(value: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return a nested mapping's leaves: {"a": {"b_c": 1}} → [("a: b c", 1)]; no lists."""
    return [
        (": ".join(path).replace("_", " "), leaf)
        for path, leaf in leaves(value)
        if not isinstance(leaf, (list, tuple))
    ]


def evaluation_table(results: Results, part: str) -> dict[str, Any] | None:
    """Return a table of one part of the evaluation, one row per model.

    Args:
        results: the run's numbers.
        part: `yes_no`, `counting` or `calibration`.

    Returns:
        The names of the columns, and rows with a name and cells; None if no model has the part.
    """
    values: Mapping[str, Mapping[str, float]] = results.evaluation.get(part, {})
    columns: Sequence[_Column] = _EVALUATION_COLUMNS[part]
    rows = [
        {
            "name": model_label(m),
            "cells": [formatter(values[m].get(key)) for key, _, formatter in columns],
        }
        for m in results.ranking
        if values.get(m)
    ]
    return {"names": [heading for _, heading, _ in columns], "rows": rows} if rows else None


def audit_rows(audit: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the split's audit; a number without a label keeps its own name."""
    return [(_AUDIT_LABELS.get(name, name), value) for name, value in labelled_leaves(audit)]


def training_rows(results: Results) -> list[tuple[str, Any]]:
    """Return the results of training other than its curves."""
    return [(name, value) for name, value in labelled_leaves(results.training) if value is not None]


def curation_rows(funnel: Mapping[str, Any]) -> dict[str, list[tuple[str, Any]]]:
    """Return the counts of the curation, and what it dropped by reason, most frequent first."""
    counts = {key: value for key, value in funnel.items() if key != "dropped"}
    dropped = pd.Series(dict(labelled_leaves(funnel.get("dropped", {}))), dtype=float)
    dropped = dropped[dropped > 0].sort_values(ascending=False, kind="stable")
    return {
        "counts": labelled_leaves(counts),
        "dropped": [(str(reason), n) for reason, n in dropped.items()],
    }
