"""Accuracy within slices of the rows: question types, answer frequencies, products."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from abo_vqa.evaluation.intervals import (
    bootstrap_slice_means,
    certain_interval,
    percentile_interval,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from abo_vqa.core.config import Config

SLICE_COLUMNS = (
    "question_type", "question_subtype", "answer_type", "answer_words", "answer_frequency",
    "image_rows", "product_type", "seen_question", "seen_pair",
)  # fmt: skip
_MIN_ROWS = 20  # of a worst slice: the interval of a smaller one says nothing
_MAX_WORST = 10

_SliceTable = dict[str, list[dict[str, Any]]]


def slice_accuracy(
    scored: Mapping[str, pd.DataFrame],
    clusters: NDArray[np.int64],
    config: Config,
    columns: Sequence[str] = SLICE_COLUMNS,
) -> dict[str, _SliceTable]:
    """Each model's accuracy within each value of each slice column.

    Intervals are bootstrapped over images. Where a model has all or none of a slice's rows right,
    resampling would claim certainty; the interval is then Wilson's, for as many trials as the
    slice has images.

    Args:
        scored: model → its scores; all tables have the same rows.
        clusters: [n] the number of each row's image.
        config: resamples, confidence and seed.
        columns: the columns whose values are the slices.

    Returns:
        Model → column → [{"value", "n", "accuracy", "low", "high"}], largest slice first.
    """
    correct = np.column_stack([t["accuracy"].to_numpy(dtype=float) for t in scored.values()])
    members = slice_members(next(iter(scored.values())), columns)
    settings = config.evaluate
    means = bootstrap_slice_means(
        correct, list(members.values()), clusters, settings.resamples, config.seed
    )
    bounds = percentile_interval(means, settings.confidence).reshape(len(members), -1, 2)
    results: dict[str, _SliceTable] = {model: {c: [] for c in columns} for model in scored}
    for k, ((column, value), rows) in enumerate(members.items()):
        inside = correct[rows]
        for m, model in enumerate(scored):
            accuracy = float(inside[:, m].mean())
            certain = certain_interval(inside[:, m], clusters[rows], settings.confidence)
            low, high = certain or bounds[k, m]
            results[model][column].append(
                {"value": value, "n": len(rows), "accuracy": accuracy,
                 "low": float(low), "high": float(high)}
            )  # fmt: skip
    return results


def slice_members(
    rows: pd.DataFrame, columns: Sequence[str]
) -> dict[tuple[str, str], NDArray[np.int64]]:
    """Find the rows of each slice.

    Args:
        rows: a table with the columns.
        columns: the columns whose values are the slices.

    Returns:
        (column, value) → the positions of its rows; a column's largest slice first, equal ones by
        name.
    """
    members = {}
    for column in columns:
        labels, values = pd.factorize(rows[column].astype(str), sort=True)
        sizes = np.bincount(labels, minlength=len(values))
        places = np.split(np.argsort(labels, kind="stable"), np.cumsum(sizes)[:-1])
        for i in np.argsort(-sizes, kind="stable"):
            members[column, str(values[i])] = places[i]
    return members


def worst_slices(table: _SliceTable, scores: pd.DataFrame) -> list[dict[str, Any]]:
    """Find the slices whose whole interval is below the model's accuracy.

    Args:
        table: one model's part of `slice_accuracy`.
        scores: the same model's scores.

    Returns:
        Up to ten slices, lowest accuracy first: "slice" (the column), the keys of
        `slice_accuracy`, and "words", a sentence without its full stop.
    """
    overall = float(scores["accuracy"].mean())
    worst = [
        {
            "slice": column,
            **row,
            "words": f"{column.replace('_', ' ')} {row['value']}: {row['accuracy']:.1%} of "
            f"{row['n']} rows right, against {overall:.1%} over all",
        }
        for column, rows in table.items()
        for row in rows
        if row["n"] >= _MIN_ROWS and row["high"] < overall
    ]
    worst.sort(key=lambda row: (row["accuracy"], row["slice"], row["value"]))
    return worst[:_MAX_WORST]
