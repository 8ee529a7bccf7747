"""What the verifiers answer: models from image and question, the blind one from the question."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from abo_vqa.core.errors import RetryLaterError, UserError
from abo_vqa.core.memory import release_memory
from abo_vqa.core.verify_config import BLIND_VERIFIER
from abo_vqa.data.groups import group_rows, has_columns
from abo_vqa.models.answering.blind import TooFewGroupsError, cross_fit_blind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from abo_vqa.core.config import Config

AnswerMatcher = Callable[[str, str], float]
"""Takes a verifier's and the generated answer; returns 1 if they mean the same, else 0."""
_BLIND_VARIANT = "ngram"  # the strongest of the blind baselines
# From the most to the least that is kept together; a user's own table may lack the columns.
_GROUPS = ("near-duplicate", "product", "image")


@dataclass(frozen=True)
class Opinion:
    """One verifier's answers.

    Attributes:
        answers: columns prediction and error, one row per row of the table, in its order.
        folder: the journal's, to be discarded once the answers are written; None without one.
    """

    answers: pd.DataFrame
    folder: Path | None = None


def ask_verifiers(names: Sequence[str], config: Config, table: pd.DataFrame) -> dict[str, Opinion]:
    """Have each verifier answer all questions, the blind one first, which takes least.

    One whose service can't answer now doesn't keep the others from answering.

    Args:
        names: those in `verify.models`.
        config: the settings.
        table: the generated table.

    Returns:
        Verifier → its answers, in the order of the names.

    Raises:
        UserError: see `ask_verifier`.
        RetryLaterError: a service can't answer now; every answer so far is kept.
    """
    opinions, later = {}, {}
    for name in sorted(names, key=lambda name: name != BLIND_VERIFIER):
        try:
            opinions[name] = ask_verifier(name, config, table)
        except RetryLaterError as error:
            later[name] = f"{name}: {error}"
    if later:
        raise RetryLaterError(
            f"{' '.join(later.values())} The other verifiers' answers are saved, too. To go on "
            f"without {' and '.join(later)}, take it out of verify.models."
        )
    return {name: opinions[name] for name in names}


def ask_verifier(name: str, config: Config, table: pd.DataFrame) -> Opinion:
    """Have one verifier answer all questions; an interrupted run continues where it was.

    Args:
        name: a name in `verify.models`.
        config: the settings.
        table: the generated table.

    Raises:
        UserError: the model can't be loaded or paid for, or memory isn't sufficient; or the blind
            predictor can't be fitted.
        RetryLaterError: a service can't answer now.
    """
    if name == BLIND_VERIFIER:
        try:
            return _ask_blind(config, table)
        except TooFewGroupsError as error:
            raise UserError(f"{error} Take {name} out of verify.models.") from error
    # Only here: it loads torch, which the blind predictor doesn't need.
    from abo_vqa.models.answering.baseline import BaselineJob, answer_all

    asked = _numbered(table)[["row_id", "image_path", "question"]]
    # Stored vision outputs are made from the verified table, so those there are may be old.
    # And what a ranking model chooses among are the very answers to be verified: it writes its own.
    job = BaselineJob.about(asked, name, config, stage="verify", use_stored=False, ranked=False)
    try:
        predictions = answer_all(config, job).predictions
    except UserError as error:
        raise UserError(
            f"verifier {name}: {error} What was answered is saved. To go on without it, take "
            f"{name} out of verify.models."
        ) from error
    release_memory()  # for the next model
    return Opinion(_in_order(predictions), job.folder)


def blind_accuracy(config: Config, matches: AnswerMatcher, table: pd.DataFrame) -> float | None:
    """Measure how many of some rows' answers the blind predictor gives, fitted on these rows alone.

    Args:
        config: the seed, and how far look-alikes may differ.
        matches: when two answers mean the same.
        table: the rows.

    Returns:
        The share, None for rows that are too few to be divided.
    """
    if table.empty:
        return None
    rows = table.reset_index(drop=True)
    try:
        opinion = _ask_blind(config, rows)
    except TooFewGroupsError:  # all rows belong together
        return None
    answers = zip(opinion.answers["prediction"], rows["answer"], strict=True)
    return round(sum(matches(*pair) for pair in answers) / len(rows), 4)


def _ask_blind(config: Config, table: pd.DataFrame) -> Opinion:
    """Answer each fifth of the table by predictors fitted on the other fifths."""
    groups = verification_groups(config, table)
    fitted = cross_fit_blind(_numbered(table), groups, config.seed)
    return Opinion(_in_order(fitted[_BLIND_VARIANT].predictions))


def _numbered(table: pd.DataFrame) -> pd.DataFrame:
    """Return the questions and answers with their positions as row_id."""
    rows = table[["image_path", "question", "answer"]].copy()
    rows.insert(0, "row_id", np.arange(len(rows)))
    return rows


def verification_groups(config: Config, table: pd.DataFrame) -> NDArray[np.int64]:
    """[n] what must not be on both sides of a fit: look-alikes, products or images.

    Args:
        config: how far look-alikes may differ.
        table: the generated table.
    """
    kind = next(kind for kind in _GROUPS if has_columns(kind, table.columns))
    return group_rows(table, kind, config.split.phash_distance)


def _in_order(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return prediction and error in the order of the table's rows."""
    ordered = predictions.astype({"row_id": int}).sort_values("row_id")
    return ordered[["prediction", "error"]].reset_index(drop=True)
