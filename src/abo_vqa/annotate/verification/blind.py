"""The blind verifier: it sees the question alone, and is fitted on the other images' answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from abo_vqa.data.groups import group_rows, strictest_group
from abo_vqa.data.similarity_rule import configured_rule
from abo_vqa.models.answering.blind import cross_fit_blind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from abo_vqa.core.config import Config

AnswerMatcher = Callable[[str, str], float]
"""Takes a verifier's and the generated answer; returns 1 if they mean the same, else 0."""
BLIND_VARIANT = "ngram"
"""The blind baseline that verifies: the strongest one."""


def answer_blindly(config: Config, table: pd.DataFrame) -> pd.DataFrame:
    """Answer each fifth of the table by predictors fitted on the other fifths.

    Args:
        config: the seed, and how far look-alikes may differ.
        table: the generated table.

    Returns:
        Columns prediction and error, in the order of the table's rows.

    Raises:
        TooFewGroupsError: all rows belong together.
    """
    groups = verification_groups(config, table)
    fitted = cross_fit_blind(number_rows(table), groups, config.seed, (BLIND_VARIANT,))
    return in_order(fitted[BLIND_VARIANT].predictions)


def verification_groups(config: Config, table: pd.DataFrame) -> NDArray[np.int64]:
    """[n] what must not be on both sides of a fit: look-alikes, products or images.

    Args:
        config: how far look-alikes may differ.
        table: the generated table.
    """
    kind = strictest_group(table.columns)  # a user's own table may lack columns
    return group_rows(table, kind, configured_rule(config))


def number_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return the questions and answers with their positions as row_id.

    Args:
        table: columns image_path, question, answer.
    """
    rows = table[["image_path", "question", "answer"]].copy()
    rows.insert(0, "row_id", np.arange(len(rows)))
    return rows


def in_order(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return prediction and error in the order of the rows.

    Args:
        predictions: columns row_id, prediction, error.
    """
    ordered = predictions.astype({"row_id": int}).sort_values("row_id")
    return ordered[["prediction", "error"]].reset_index(drop=True)
