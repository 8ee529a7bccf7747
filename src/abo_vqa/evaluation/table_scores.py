"""Scores and intervals of any table of answers and predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from abo_vqa.config import Config
from abo_vqa.data.image_paths import unify_image_paths
from abo_vqa.evaluation.statistics import bootstrap, interval, wilson
from abo_vqa.evaluation.table import score_pairs

if TYPE_CHECKING:
    from numpy.typing import NDArray


def score_table(
    rows: pd.DataFrame, metrics: Sequence[str], config: Config, device: str = "cpu"
) -> tuple[pd.DataFrame, dict[str, str]]:
    """A column a metric [n], in the rows' order, and the metrics' signatures.

    A row with a non-empty `error` has no scores.
    """
    failed = np.asarray(rows["error"] != "", dtype=np.bool_)
    pairs = list(zip(rows["prediction"], rows["answer"], strict=True))
    answered = [pair for pair, bad in zip(pairs, failed, strict=True) if not bad]
    wanted = dict.fromkeys("exact_match" if name == "accuracy" else name for name in metrics)
    scores = score_pairs(answered, list(wanted), scorers=config.scorers, device=device)
    columns, signature = scores.rows(pairs, failed), dict(scores.signature)
    if "accuracy" in metrics:
        columns["accuracy"] = np.nan_to_num(columns["exact_match"])
        signature["accuracy"] = "equal after normalisation, empty = 0; a failed row is wrong"
    table = pd.DataFrame({name: columns[name] for name in metrics})
    return table, {name: signature[name] for name in metrics}


def clusters_of(rows: pd.DataFrame) -> NDArray[np.int64]:
    """What is resampled: pictures where the table names them, else rows.

    Two spellings of one picture's path are one cluster; a row without a picture is its own.
    """
    if "image_path" not in rows:
        return np.arange(len(rows))
    keys = [name or number for number, name in enumerate(unify_image_paths(rows["image_path"])[0])]
    return pd.factorize(np.array(keys, dtype=object))[0].astype(np.int64)


def summarise(rows: pd.DataFrame, scored: pd.DataFrame, config: Config) -> dict[str, Any]:
    """Means over answered rows with their intervals; a metric nobody answered has none."""
    values = scored.to_numpy(dtype=float)
    settings = config.evaluate
    clusters = clusters_of(rows)
    means = bootstrap(values, clusters, settings.resamples, config.seed)
    found = {}
    for name, column, bounds in zip(
        scored, values.T, interval(means, settings.confidence).tolist(), strict=True
    ):
        known = ~np.isnan(column)
        if known.any():
            low, high = _sure(column[known], clusters[known], bounds, settings.confidence)
            found[str(name)] = {"mean": float(column[known].mean()), "low": low, "high": high}
    answered = int((rows["error"] == "").sum())
    summary: dict[str, Any] = {"rows": len(rows), "answered": answered}
    headline = next((name for name in ("accuracy", "exact_match") if name in scored), None)
    if headline:
        summary["accuracy"] = float(scored[headline].fillna(0.0).mean())
    resampled = "images" if "image_path" in rows else "rows"
    return {**summary, "resampled": resampled, "metrics": found}


def _sure(
    values: NDArray[np.float64],
    clusters: NDArray[np.int64],
    bounds: tuple[float, float],
    confidence: float,
) -> tuple[float | None, float | None]:
    """The interval of a metric's mean, where resampling can tell it; None, None where nothing can.

    Resampled values that are all 1, or all 0, would claim certainty: shares of so few pictures get
    Wilson's interval. Of a single picture, or of equal values that are no shares, there is none.

    Args:
        values, clusters: [n], the rows that have a value. bounds: the bootstrap's.
    """
    pictures = len(np.unique(clusters))
    if pictures > 1 and np.ptp(values) > 0:
        return bounds
    if pictures > 1 and values[0] in (0.0, 1.0):
        return wilson(values[0] * pictures, pictures, confidence)
    return None, None


def resampled(rows: pd.DataFrame, taken: str | None) -> str:
    """What the intervals resample, in words."""
    if "image_path" not in rows:
        return "resampled: rows (no picture column found; name one with --columns image_path=…)"
    names = unify_image_paths(rows["image_path"])[0]
    unnamed, groups = names.count(""), len({*names} - {""})
    noun = "picture" if groups == 1 else "pictures"
    alone = f", and {unnamed:,} row(s) that name none, each by itself" if unnamed else ""
    return f"resampled: {groups:,} {noun} (column {taken}){alone}"
