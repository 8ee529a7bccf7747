"""Two states of the project on the same test questions: accuracies, and which answers changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from abo_vqa.evaluation.clusters import image_clusters
from abo_vqa.evaluation.intervals import bootstrap_means, percentile_interval
from abo_vqa.evaluation.significance import holm, permutation_p

if TYPE_CHECKING:
    from abo_vqa.core.config import Config
    from abo_vqa.evaluation.intervals import Floats

_KEY = ["image_path", "question", "answer"]
_RESULT = ["prediction", "error", "accuracy"]
ANSWER_COLUMNS = [*_KEY, *_RESULT]
"""What a table of one model's scores needs."""


@dataclass(frozen=True)
class ModelChange:
    """One model before and after, on the questions that both have.

    Attributes:
        model: its name.
        rows: the questions, with prediction, error and accuracy, each as `…_base` and `…_head`.
        base: accuracy before.
        head: accuracy after.
        base_interval: of the accuracy before.
        head_interval: of the accuracy after.
        interval: of the paired difference.
        p_adjusted: of the paired difference, by Holm over the models that changed.
        significant: whether the difference exceeds the noise of images.
    """

    model: str
    rows: pd.DataFrame
    base: float
    head: float
    base_interval: tuple[float, float]
    head_interval: tuple[float, float]
    interval: tuple[float, float]
    p_adjusted: float
    significant: bool

    @property
    def changed(self) -> pd.DataFrame:
        """The rows whose answer changed: now wrong, now right, then those as right as before."""
        rows = self.rows
        different = (rows["prediction_base"] != rows["prediction_head"]) | _moved(rows)
        changed = rows[different].copy()
        gain = changed["accuracy_head"] - changed["accuracy_base"]
        still = np.where(changed["accuracy_head"] == 1, "still right", "still wrong")
        changed.insert(0, "change", np.select([gain < 0, gain > 0], CHANGES[:2], still))
        order = changed["change"].map(CHANGES.index)
        return changed.iloc[np.argsort(order, kind="stable")].reset_index(drop=True)

    def count(self, change: str) -> int:
        """Count the rows of a kind.

        Args:
            change: one of `CHANGES`.
        """
        return int((self.changed["change"] == change).sum())


CHANGES = ("now wrong", "now right", "still wrong", "still right")
"""What can have become of a row whose answer changed."""


@dataclass(frozen=True)
class Changes:
    """What is different between two states.

    Attributes:
        models: those whose answers changed, in the order of the results.
        unchanged: models with the same answers to all questions that both have.
        added: models that only the later state has.
        removed: models that only the earlier state has.
        rows: how many test questions both have.
        images: how many images they are about.
        rows_base: how many test questions the earlier state has.
        rows_head: how many test questions the later state has.
    """

    models: tuple[ModelChange, ...]
    unchanged: tuple[str, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    rows: int
    images: int
    rows_base: int
    rows_head: int


def compare_answers(
    base: Mapping[str, pd.DataFrame], head: Mapping[str, pd.DataFrame], config: Config
) -> Changes:
    """Compare all models' answers to the test questions that two states have in common.

    Questions are matched by image, question and expected answer, not by their number, which a
    change of the data moves.

    Args:
        base: model → its scores before, with `ANSWER_COLUMNS`.
        head: model → its scores after.
        config: resamples, confidence and seed.

    Returns:
        The comparison; without models where no question is in both.
    """
    joined = {model: _join(base[model], head[model]) for model in head if model in base}
    changed = {model: rows for model, rows in joined.items() if _differ(rows)}
    first = next(iter(joined.values()), pd.DataFrame(columns=_KEY))
    return Changes(
        models=tuple(_model_changes(changed, config)),
        unchanged=tuple(model for model in joined if model not in changed),
        added=tuple(model for model in head if model not in base),
        removed=tuple(model for model in base if model not in head),
        rows=len(first),
        images=first["image_path"].nunique(),
        rows_base=max(map(len, base.values()), default=0),
        rows_head=max(map(len, head.values()), default=0),
    )


def _join(base: pd.DataFrame, head: pd.DataFrame) -> pd.DataFrame:
    """The questions of both tables; one that occurs several times is matched in order."""
    numbered = [
        table[ANSWER_COLUMNS].assign(occurrence=table.groupby(_KEY).cumcount())
        for table in (base, head)
    ]
    # From the later table's side: its order is the one that people know.
    return numbered[1].merge(numbered[0], on=[*_KEY, "occurrence"], suffixes=("_head", "_base"))


def _moved(rows: pd.DataFrame) -> pd.Series:
    return rows["accuracy_base"] != rows["accuracy_head"]


def _differ(rows: pd.DataFrame) -> bool:
    return bool((_moved(rows) | (rows["prediction_base"] != rows["prediction_head"])).any())


def _model_changes(changed: Mapping[str, pd.DataFrame], config: Config) -> list[ModelChange]:
    if not changed:
        return []
    level = config.evaluate.confidence
    first = next(iter(changed.values()))
    clusters = image_clusters(first)
    before, after = (_accuracies(changed.values(), side) for side in ("base", "head"))  # [n, P]
    values = np.column_stack([before, after, after - before])
    means = bootstrap_means(values, clusters, config.evaluate.resamples, config.seed)
    bounds = [(float(low), float(high)) for low, high in percentile_interval(means, level)]
    p_values = permutation_p(after - before, clusters, config.evaluate.resamples, config.seed)
    adjusted = holm([float(p) for p in p_values])
    count = len(changed)
    return [
        ModelChange(
            model=model,
            rows=rows,
            base=float(before[:, i].mean()),
            head=float(after[:, i].mean()),
            base_interval=bounds[i],
            head_interval=bounds[count + i],
            interval=bounds[2 * count + i],
            p_adjusted=adjusted[i],
            significant=adjusted[i] < 1 - level,
        )
        for i, (model, rows) in enumerate(changed.items())
    ]


def _accuracies(tables: Iterable[pd.DataFrame], side: str) -> Floats:
    return np.column_stack([table[f"accuracy_{side}"].to_numpy(dtype=float) for table in tables])
