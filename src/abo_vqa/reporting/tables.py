"""Tables and sentences of the report, worked out from the numbers; templates only lay them out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from abo_vqa.reporting import study
from abo_vqa.reporting.inputs import Results, records
from abo_vqa.reporting.words import (
    count,
    kind,
    label,
    number,
    percent,
)

_Column = tuple[str, str, Callable[[float | None], str]]
ERRORS = 24
_PAIRS = 12
LARGEST = 12  # values of a slice
_VALUES = {"True": "yes", "False": "no"}
_SLICES = (
    ("question_type", "Question type"),
    ("question_subtype", "Question type, finer"),
    ("answer_type", "Answer type"),
    ("answer_words", "Words in the answer"),
    ("product_type", "Product type, the largest"),
    ("seen_pair", "Question and answer seen in train"),
    ("seen_question", "Question seen in train"),
    ("answer_frequency", "How often train has the answer"),
    ("image_rows", "Test questions about the picture"),
)
_ORDINAL = ("answer_words", "answer_frequency", "image_rows")  # from small to large, not by size


def headline(results: Results) -> list[dict[str, Any]]:
    """One row a model, best first: accuracy and gain over blind, each with its interval."""
    rows = []
    for model in results.ranking:
        metrics = results.metrics[model]
        pair = results.pair(model, results.best_blind) if results.best_blind else None
        rows.append(
            {
                "model": model,
                "name": label(model),
                "kind": kind(model),
                "accuracy": metrics["accuracy"],
                "interval": results.interval(model),
                "alias_accuracy": metrics.get("alias_accuracy"),
                "gain": metrics.get("gain_over_blind"),
                "gain_interval": (pair["low"], pair["high"]) if pair else None,
                "significant": bool(pair and pair.get("significant")),
                "is_blind_best": model == results.best_blind,
                "coverage": metrics.get("coverage"),
                "n": metrics.get("n"),
            }
        )
    return rows


def paired(results: Results) -> list[dict[str, Any]]:
    """The focus model against every other: difference, interval, both tests, corrected p."""
    pairs = [results.pair(results.focus, m) for m in results.ranking if m != results.focus]
    return [{**pair, "name": label(pair["b"])} for pair in pairs if pair is not None]


def metric_table(results: Results) -> dict[str, Any]:
    """Every metric of every model, with intervals: a row a metric, a column a model."""
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
    return {"models": [label(model) for model in results.ranking], "rows": rows}


def study_table(results: Results) -> list[dict[str, Any]]:
    """The study's whole Table 1, beside this run.

    The study measured baselines on samples of all rows, lower-cased only: this run's value on the
    same share of all rows, computed the study's way, stands beside each; then the test rows.
    """
    rows = []
    for row in records(study.table1()):
        model = row["model"]
        ours = results.metrics.get(model, {})
        fractions = results.evaluation.get("fractions", {}).get(model, [])
        share = row["rows"] / study.ALL_ROWS
        same: dict[str, Any] = next(
            (f for f in fractions if abs(f["fraction"] - share) < 0.005), {}
        )
        rows.append(
            {
                **row,
                "share": None if model == "finetuned" else share,
                "same_n": same.get("n"),
                "same_way": same.get("accuracy_lower_case_only"),
                "same_norm": same.get("accuracy"),
                "ours": ours.get("accuracy"),
                "interval": results.interval(model),
                "ours_bertscore": ours.get("bertscore_f1"),
            }
        )
    return rows


def slice_tables(results: Results) -> list[dict[str, Any]]:
    """Accuracy by slice of the focus model, the best zero-shot and the best blind one."""
    chosen = [results.focus, results.best_zero_shot, results.best_blind]
    models = [m for m in dict.fromkeys(chosen) if m is not None]
    tables = []
    for name, title in _SLICES:
        values = {m: {str(p["value"]): p for p in results.slices(m, name)} for m in models}
        order = list(values[models[0]])
        if name in _ORDINAL:
            order.sort(key=lambda value: int(value.split("-")[0]))
        if len(order) > 1:
            rows = [
                {"value": _VALUES.get(value, value.replace("_", " ")),
                 "n": values[models[0]][value]["n"],
                 "cells": [values[m].get(value) for m in models]}
                for value in order[:LARGEST]
            ]  # fmt: skip
            tables.append({"title": title, "models": models, "rows": rows})
    return tables


def confused_pairs(results: Results) -> list[dict[str, Any]]:
    """The most frequent wrong answers of the focus model: expected, answered, n."""
    scores = results.scores[results.focus]
    wrong = scores[scores["accuracy"].astype(float) < 1]
    counts = wrong.groupby(["answer", "prediction"]).size().rename("n").reset_index()
    counts = counts.sort_values(["n", "answer", "prediction"], ascending=[False, True, True])
    return records(counts.head(_PAIRS))


def errors(results: Results) -> list[dict[str, Any]]:
    """Wrong answers to look at: the most confident ones, the question types in turn."""
    scores = results.scores[results.focus]
    wrong = scores[(scores["accuracy"].astype(float) < 1) & (scores["error"] == "")]
    wrong = wrong.sort_values("confidence", ascending=False, kind="stable")
    turn = wrong.groupby("question_type").cumcount()
    picked = wrong.assign(turn=turn).sort_values(["turn", "question_type"], kind="stable")
    others = [m for m in results.ranking if m != results.focus and kind(m) != "blind"]
    hits = {m: results.scores[m].set_index("row_id")["accuracy"].astype(float) for m in others}
    cards = []
    for row in records(picked.head(ERRORS)):
        right = [label(m) for m in others if hits[m].get(row["row_id"], 0) == 1]
        cards.append({**row, "others_right": right, "others": len(others)})
    return cards


def flatten(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """A nested mapping as labelled leaves: {"a": {"b_c": 1}} → [("a: b c", 1)]."""
    leaves: list[tuple[str, Any]] = []
    for key, item in value.items():
        name = f"{prefix}{key}".replace("_", " ")
        if isinstance(item, Mapping):
            leaves += flatten(item, f"{name}: ")
        elif not isinstance(item, (list, tuple)):
            leaves.append((name, item))
    return leaves


def by_model(results: Results, part: str, columns: Sequence[_Column]) -> dict[str, Any] | None:
    """A table of one part of the evaluation (yes_no, counting, calibration), a row a model.

    Args:
        columns: key in the part, heading, how to show it.
    """
    found = results.evaluation.get(part, {})
    rows = [
        {"name": label(m), "cells": [show(found[m].get(key)) for key, _, show in columns]}
        for m in results.ranking
        if found.get(m)
    ]
    return {"names": [name for _, name, _ in columns], "rows": rows} if rows else None


YES_NO: tuple[_Column, ...] = (
    ("yes_recall", "Recall on yes", percent),
    ("yes_n", "n", count),
    ("no_recall", "Recall on no", percent),
    ("no_n", "n", count),
)
COUNTING: tuple[_Column, ...] = (
    ("n", "n", count),
    ("exact", "Exact", percent),
    ("within_one", "Within one", percent),
    ("mean_absolute_error", "Mean absolute error", number),
    ("not_a_number", "Not a number", count),
)
CALIBRATION: tuple[_Column, ...] = (
    ("n", "n", count),
    ("expected_calibration_error", "Expected calibration error", percent),
    ("area_under_risk_coverage", "Area under risk-coverage", number),
)

# What the split's audit calls its numbers, in words.
AUDIT = {
    "rows: train": "train rows",
    "rows: test": "test rows",
    "images: train": "train pictures",
    "images: test": "test pictures",
    "groups: count": "groups",
    "groups: largest images": "largest group, pictures",
    "groups: largest rows": "largest group, rows",
    "groups: with several images": "groups of several pictures",
    "shared: images": "pictures on both sides",
    "shared: products": "products on both sides",
    "shared: identical pictures": "identical pictures on both sides",
    "shared: near duplicate groups": "groups of near-duplicates on both sides",
    "unchecked: products": "pictures whose product isn't known",
    "unchecked: identical pictures": "pictures whose bytes aren't known",
    "unchecked: near duplicate groups": "pictures without a perceptual hash, not compared",
    "near duplicates: test images": "test pictures with a near-duplicate in train",
    "near duplicates: share": "as a share of the test pictures",
    "overlap: questions": "test rows whose question occurs in train",
    "overlap: pairs": "test rows whose question and answer occur in train",
    "types: largest difference": "largest difference in a product type's share",
}


def audit(results: Results) -> list[tuple[str, Any]]:
    """The split's audit; a number this table has no words for keeps its own name."""
    return [(AUDIT.get(name, name), value) for name, value in flatten(results.audit)]


def training(results: Results) -> list[tuple[str, Any]]:
    """What training found, beside its curves."""
    return [(name, value) for name, value in flatten(results.training) if value is not None]


def funnel(results: Results) -> dict[str, Any]:
    """Counts of curation, and what was dropped for which reason."""
    counted = {key: value for key, value in results.funnel.items() if key != "dropped"}
    dropped = pd.Series(dict(flatten(results.funnel.get("dropped", {}))), dtype=float)
    dropped = dropped[dropped > 0].sort_values(ascending=False, kind="stable")
    return {"counts": flatten(counted), "dropped": list(dropped.items())}
