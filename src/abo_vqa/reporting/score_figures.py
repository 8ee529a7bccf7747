"""Figures of a table of scores, for `abo-vqa score`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from abo_vqa.config import Config
from abo_vqa.data.normalise import same_answer
from abo_vqa.data.questions import question_type
from abo_vqa.evaluation.slices import slices
from abo_vqa.evaluation.table_scores import clusters_of
from abo_vqa.reporting.figures.register import FIGURE_REGISTER, draw_figures, write_figure
from abo_vqa.reporting.inputs import Results

SCORE_FIGURES = tuple(figure for figure in FIGURE_REGISTER if figure.in_scores)
_MAX_NAME = 48  # characters of a file's name in a figure's corner


def draw_score_figures(
    rows: pd.DataFrame, scored: pd.DataFrame, config: Config, name: str, folder: Path
) -> list[Path]:
    """Draw those of the report's figures that need a single table only.

    Args:
        rows: prediction, answer, error, and where known question and image_path.
        scored: one column per metric, for the same rows.
        config: the settings of the intervals.
        name: what the figures call the table.
        folder: where the images and their data are written.

    Returns:
        The paths of the images; none if every row has an error.
    """
    answered = np.asarray(rows["error"] == "", dtype=np.bool_)
    if not answered.any():
        return []
    short = name if len(name) <= _MAX_NAME else f"{name[: _MAX_NAME - 1]}…"
    right = [same_answer(p, a) for p, a in zip(rows["prediction"], rows["answer"], strict=True)]
    table = rows.join(scored.drop(columns="accuracy", errors="ignore"))
    table["accuracy"] = np.where(answered, right, 0.0)
    by_type: dict[str, Any] = {}
    if "question" in table:
        table["question_type"] = [question_type(question) for question in table["question"]]
        by_type = dict(slices({short: table}, clusters_of(rows), config, ("question_type",)))
    means = {
        str(metric): float(table[metric].mean()) for metric in dict.fromkeys(("accuracy", *scored))
    }
    nothing = pd.DataFrame()
    results = Results(
        config, {short: means}, {"slices": by_type}, {short: table}, {}, {}, {}, {},
        nothing, nothing, nothing, nothing,
    )  # fmt: skip
    return [
        write_figure(figure.name, drawing, folder)
        for figure, drawing in draw_figures(results, SCORE_FIGURES)
    ]
