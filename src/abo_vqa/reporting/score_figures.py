"""Figures of a table of scores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from abo_vqa.config import Config
from abo_vqa.evaluation.table_scores import clusters_of

if TYPE_CHECKING:
    pass


FIGURES = ("metric-correlation", "metric-distributions", "confusions", "question-types")


LONGEST_NAME = 48  # characters of a file's name in a figure's corner


def draw(
    rows: pd.DataFrame, scored: pd.DataFrame, config: Config, name: str, folder: Path
) -> list[Path]:
    """The report's figures that a table of its own can have; PNGs and the numbers drawn."""
    from abo_vqa.data.normalise import same_answer
    from abo_vqa.data.questions import question_type
    from abo_vqa.evaluation.slices import slices
    from abo_vqa.reporting.figures import answers, metrics, write
    from abo_vqa.reporting.inputs import Results
    from abo_vqa.reporting.style import headline, styled

    answered = np.asarray(rows["error"] == "", dtype=np.bool_)
    if not answered.any():
        return []
    right = [same_answer(p, a) for p, a in zip(rows["prediction"], rows["answer"], strict=True)]
    table = rows.join(scored.drop(columns="accuracy", errors="ignore"))
    table["accuracy"] = np.where(answered, right, 0.0)
    chosen = [metrics.correlation, metrics.distributions, answers.confusions]
    cut: dict[str, Any] = {}
    if "question" in table:
        table["question_type"] = [question_type(question) for question in table["question"]]
        cut = dict(slices({name: table}, clusters_of(rows), config, ("question_type",)))
        chosen.append(answers.question_types)
    means = {
        str(metric): float(table[metric].mean()) for metric in dict.fromkeys(("accuracy", *scored))
    }
    nothing = pd.DataFrame()
    results = Results(
        config, {name: means}, {"slices": cut}, {name: table}, {}, {}, {}, {},
        nothing, nothing, nothing, nothing,
    )  # fmt: skip
    drawn = []
    with styled():
        for figure in chosen:
            if drawing := figure(results):
                headline(drawing)
                write(drawing, folder)
                drawn.append(folder / f"{drawing.name}.png")
    return drawn
