"""The ceiling that the last evaluation found, for the commands that report other accuracies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from abo_vqa.core.json_files import read_json
from abo_vqa.core.paths import EVALUATION, TEST
from abo_vqa.core.tables import read_table
from abo_vqa.data.pairs import pair_key

_PAIR = ["image_path", "question", "answer"]


def known_ceiling(rows: pd.DataFrame) -> Mapping[str, Any] | None:
    """Return how much can be right at most, if some rows are those of the test set.

    Args:
        rows: what was answered; image_path, question and answer where they are known.

    Returns:
        `ceiling` of evaluation.json; None for other rows, or if nobody has reviewed the answers.

    Raises:
        UserError: the last evaluation or its test set is damaged.
    """
    if not (EVALUATION.is_file() and TEST.exists() and set(_PAIR) <= set(rows.columns)):
        return None
    ceiling: Mapping[str, Any] | None = read_json(EVALUATION).get("ceiling")
    if not ceiling:
        return None
    return ceiling if _keys(rows) == _keys(read_table(TEST, _PAIR)) else None


def _keys(rows: pd.DataFrame) -> set[tuple[str, str, str]]:
    return {pair_key(*pair) for pair in rows[_PAIR].astype(str).itertuples(index=False)}
