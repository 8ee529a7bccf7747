"""The blind baselines' answers to every row; loads neither torch nor transformers."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from abo_vqa.core.errors import UserError
from abo_vqa.core.paths import TRAIN
from abo_vqa.data.normalise import normalise
from abo_vqa.models.answering.sampling import sample_rows
from abo_vqa.models.blind.baselines import VARIANTS, converged, describe_part, unify_spelling

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from abo_vqa.core.config import Config

_FOLDS = 5  # of cross-fitting


class TooFewGroupsError(UserError):
    """A table can't be divided for a cross-fit; callers add what can be done about it."""


@dataclass(frozen=True)
class BlindAnswers:
    """One blind baseline's answers.

    Attributes:
        predictions: columns row_id, prediction, confidence, error.
        converged: whether its fit converged.
        part: how much of a large train split was fitted, in words; "" for all of it.
    """

    predictions: pd.DataFrame
    converged: bool
    part: str = ""


def answer_blind(
    config: Config, table: pd.DataFrame, train: pd.DataFrame
) -> dict[str, BlindAnswers]:
    """Fit each blind baseline and answer the rows, in the study's sampling order.

    Args:
        config: the settings.
        table: columns image_path and question, of all rows.
        train: columns question and answer, of the train split.

    Returns:
        Variant → its answers.

    Raises:
        UserError: the train split has no answer.
    """
    rows = sample_rows(table, config.seed, config.baselines.fraction)
    if not any(map(normalise, train["answer"].unique())):
        raise UserError(f"{TRAIN} has no answer to learn from. Run `dvc repro split`.")
    return answer_blind_rows(rows, train)


def answer_blind_rows(
    rows: pd.DataFrame, train: pd.DataFrame, variants: Collection[str] = tuple(VARIANTS)
) -> dict[str, BlindAnswers]:
    """Fit blind baselines on some rows and answer others.

    Args:
        rows: columns row_id and question.
        train: columns question and answer; at least one answer isn't blank.
        variants: which of them.

    Returns:
        Variant → its answers.
    """
    questions, answers = unify_spelling(*(_shared(train[c]) for c in ("question", "answer")))
    # Each distinct question is asked once: of millions, most are asked again and again.
    codes, distinct = pd.factorize(rows["question"])
    asked = list(distinct)
    results = {}
    for variant in variants:
        predictor = VARIANTS[variant](questions, answers)
        ended, part = converged(predictor), describe_part(predictor)
        predictions, confidences = predictor(asked)
        columns = {
            "row_id": rows["row_id"],
            "prediction": np.array(predictions, dtype=object)[codes],
            "confidence": np.array([f"{c:.6f}" for c in confidences], dtype=object)[codes],
            "error": "",
        }
        results[variant] = BlindAnswers(pd.DataFrame(columns), ended, part)
    return results


def _shared(column: pd.Series) -> list[str]:
    """The texts, equal ones as one object."""
    codes, distinct = pd.factorize(column)
    texts = np.asarray(distinct, dtype=object)[codes]
    return [str(text) for text in texts]


def cross_fit_blind(
    rows: pd.DataFrame,
    groups: NDArray[np.int64],
    seed: int,
    variants: Collection[str] = tuple(VARIANTS),
) -> dict[str, BlindAnswers]:
    """Answer each part of a table with blind baselines fitted on its other parts.

    Args:
        rows: columns row_id, question and answer.
        groups: [n] numbers from 0 of what must not be on both sides, e.g. each row's image.
        seed: of the random division of the groups into at most `_FOLDS` parts.
        variants: which of the blind baselines.

    Returns:
        Variant → its answers, in the order of the rows.

    Raises:
        TooFewGroupsError: there are fewer than two groups with an answer.
    """
    known = np.array([bool(normalise(answer)) for answer in rows["answer"]], dtype=np.bool_)
    if len(np.unique(groups[known])) < 2:
        raise TooFewGroupsError(
            "the blind baselines can't be fitted on this table: its answers are about fewer than "
            "two images that differ, and no row may be answered by a fit that saw its image."
        )
    folds = min(_FOLDS, len(np.unique(groups[known])))
    fold = _assign_folds(groups, known, folds, seed)
    parts = [answer_blind_rows(rows[fold == k], rows[fold != k], variants) for k in range(folds)]
    order = pd.Series(range(len(rows)), index=rows["row_id"].tolist())
    results = {}
    for variant in variants:
        answers = pd.concat([part[variant].predictions for part in parts])
        answers = answers.sort_values("row_id", key=lambda ids: ids.map(order))
        ended = all(part[variant].converged for part in parts)
        limited = next((part[variant].part for part in parts if part[variant].part), "")
        results[variant] = BlindAnswers(answers.reset_index(drop=True), ended, limited)
    return results


def _assign_folds(
    groups: NDArray[np.int64], known: NDArray[np.bool_], folds: int, seed: int
) -> NDArray[np.int64]:
    """[n] each row's fold; groups with an answer are spread evenly, so that no fold lacks one."""
    numbers = np.unique(groups)
    answered = np.isin(numbers, groups[known])
    shuffled = np.random.default_rng(seed).permutation(len(numbers))
    ordered = shuffled[np.argsort(~answered[shuffled], kind="stable")]
    of_group = np.empty(len(numbers), dtype=np.int64)
    of_group[ordered] = np.arange(len(numbers)) % folds
    return of_group[np.searchsorted(numbers, groups)]
