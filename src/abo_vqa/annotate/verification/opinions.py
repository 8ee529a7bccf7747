"""What the verifiers answer: models from image and question, the blind one from the question."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from abo_vqa.core.errors import UserError
from abo_vqa.core.verify_config import BLIND_VERIFIER
from abo_vqa.data.groups import group_rows, has_columns
from abo_vqa.data.normalise import same_answer
from abo_vqa.models.answering.blind import cross_fit_blind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from abo_vqa.core.config import Config

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


def ask_verifier(name: str, config: Config, table: pd.DataFrame) -> Opinion:
    """Have one verifier answer all questions; an interrupted run continues where it was.

    Args:
        name: a name in `verify.models`.
        config: the settings.
        table: the generated table.

    Raises:
        UserError: the model can't be loaded, or memory isn't sufficient.
    """
    rows = table[["image_path", "question", "answer"]].copy()
    rows.insert(0, "row_id", np.arange(len(rows)))
    if name == BLIND_VERIFIER:
        return _ask_blind(config, table, rows)
    # Only here: it loads torch, which the blind predictor doesn't need.
    from abo_vqa.models.answering.baseline import BaselineJob, answer_all

    asked = rows[["row_id", "image_path", "question"]]
    # Stored vision outputs are made from the verified table, so those there are may be old.
    # And what a ranking model chooses among are the very answers to be verified: it writes its own.
    job = BaselineJob.about(asked, name, config, stage="verify", use_stored=False, ranked=False)
    predictions = answer_all(config, job).predictions
    return Opinion(_in_order(predictions), job.folder)


def blind_accuracy(config: Config, table: pd.DataFrame) -> float | None:
    """Measure how many of some rows' answers the blind predictor gives, fitted on these rows alone.

    Args:
        config: the seed, and how far look-alikes may differ.
        table: the rows.

    Returns:
        The share, None for rows that are too few to be divided.
    """
    if table.empty:
        return None
    rows = table.reset_index(drop=True)
    try:
        opinion = ask_verifier(BLIND_VERIFIER, config, rows)
    except UserError:  # all rows belong together
        return None
    answers = zip(opinion.answers["prediction"], rows["answer"], strict=True)
    return round(sum(same_answer(*pair) for pair in answers) / len(rows), 4)


def _ask_blind(config: Config, table: pd.DataFrame, rows: pd.DataFrame) -> Opinion:
    """Answer each fifth of the table by predictors fitted on the other fifths."""
    groups = verification_groups(config, table)
    fitted = cross_fit_blind(rows, groups, config.seed)
    return Opinion(_in_order(fitted[_BLIND_VARIANT].predictions))


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
