"""Every prediction's scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from abo_vqa.config import Config
from abo_vqa.evaluation.slices import (
    fractions,
)
from abo_vqa.evaluation.table import METRICS, Scores, score_pairs

if TYPE_CHECKING:
    pass


OVER_ALL_ROWS = ("exact_match", "f1", "bertscore_f1")  # what the study prints for its samples


def _answered_pairs(tables: Mapping[str, pd.DataFrame]) -> list[tuple[str, str]]:
    """(prediction, answer) of every row that didn't fail."""
    answered = (table[table["error"] == ""] for table in tables.values())
    return [p for t in answered for p in zip(t["prediction"], t["answer"], strict=True)]


def _add_scores(table: pd.DataFrame, scores: Scores) -> pd.DataFrame:
    """The table with accuracy and a column a metric.

    A failed row has no score in any metric; only the accuracies count it, as wrong.
    """
    failed = np.asarray(table["error"] != "", dtype=np.bool_)
    pairs = list(zip(table["prediction"], table["answer"], strict=True))
    columns = scores.rows(pairs, failed)
    columns["accuracy"] = np.nan_to_num(columns["exact_match"])
    if "alias_accuracy" in columns:
        columns["alias_accuracy"] = np.nan_to_num(columns["alias_accuracy"])
    return table.assign(**columns)


def score_test_rows(
    tables: Mapping[str, pd.DataFrame], config: Config, device: str
) -> tuple[dict[str, pd.DataFrame], dict[str, str]]:
    """Every model's table with a column a metric, and the metrics' signatures.

    A pair that several models have is scored once.
    """
    references = sorted({answer for table in tables.values() for answer in table["answer"]})
    scores = score_pairs(
        _answered_pairs(tables),
        ("alias_accuracy", *METRICS),
        references=references,
        scorers=config.scorers,
        alias_table=config.evaluate.aliases,
        device=device,
    )
    signature = {
        "accuracy": "exact match after normalisation; a failed row counts as wrong",
        **scores.signature,
        "intervals": f"percentile bootstrap over images, {config.evaluate.resamples} resamples, "
        f"{config.evaluate.confidence:.0%}, seed {config.seed}",
    }
    return {model: _add_scores(table, scores) for model, table in tables.items()}, signature


def score_all_rows(
    predictions: Mapping[str, pd.DataFrame], vqa: pd.DataFrame, config: Config, device: str
) -> dict[str, list[dict[str, float]]]:
    """The study's fractions of all rows, for each model that has answered them."""
    tables = {
        model: found.assign(answer=vqa["answer"].to_numpy()[found.index])
        for model, found in predictions.items()
    }
    pairs = _answered_pairs(tables)
    scores = score_pairs(pairs, OVER_ALL_ROWS, scorers=config.scorers, device=device)
    return {
        model: fractions(_add_scores(table, scores), len(vqa), OVER_ALL_ROWS[1:])
        for model, table in tables.items()
    }


def metric_columns(table: pd.DataFrame) -> list[str]:
    """The metrics among a score table's columns, the headline first."""
    start = list(table.columns).index("error") + 1
    rest = list(table.columns[start:])
    headline = [name for name in ("accuracy", "alias_accuracy") if name in rest]
    return headline + [name for name in rest if name not in headline]
