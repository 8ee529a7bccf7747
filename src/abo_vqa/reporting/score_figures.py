"""Figures of a table of scores, for `abo-vqa score`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from abo_vqa.core.config import Config
from abo_vqa.evaluation.table_scores import add_accuracy
from abo_vqa.reporting.figures.register import FIGURE_REGISTER, draw_figures, write_figure
from abo_vqa.reporting.inputs import Results

SCORE_FIGURES = tuple(figure for figure in FIGURE_REGISTER if figure.in_scores)
_MAX_NAME = 48  # characters of a file's name in a figure's corner


def draw_score_figures(
    rows: pd.DataFrame,
    scored: pd.DataFrame,
    question_types: Sequence[Mapping[str, Any]],
    config: Config,
    name: str,
    folder: Path,
    ceiling: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Draw those of the report's figures that need a single table only.

    Args:
        rows: prediction, answer, error, and where known question and image_path.
        scored: one column per metric, for the same rows.
        question_types: accuracy by question type, as `summarise_table` returns it.
        config: the settings.
        name: what the figures call the table.
        folder: where the images and their data are written.
        ceiling: how much can be right at most; None if nobody knows.

    Returns:
        The paths of the images; none if every row has an error.
    """
    if not (rows["error"] == "").any():
        return []
    short = name if len(name) <= _MAX_NAME else f"{name[: _MAX_NAME - 1]}…"
    table = add_accuracy(rows).join(scored.drop(columns="accuracy", errors="ignore"))
    slices = {short: {"question_type": question_types}}
    means = {
        str(metric): float(table[metric].mean()) for metric in dict.fromkeys(("accuracy", *scored))
    }
    evaluation = {"slices": slices, "ceiling": ceiling}
    nothing = pd.DataFrame()
    results = Results(
        config, {short: means}, evaluation, {short: table}, {}, {}, {}, {}, {},
        nothing, nothing, nothing, nothing,
    )  # fmt: skip
    return [
        write_figure(figure.name, drawing, folder)
        for figure, drawing in draw_figures(results, SCORE_FIGURES)
    ]
