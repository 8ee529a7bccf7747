"""data/opinions.csv: the verifiers' answers, one row per verifier and question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from abo_vqa.core.errors import UserError
from abo_vqa.core.paths import OPINIONS
from abo_vqa.core.tables import read_table

_COLUMNS = ["verifier", "row_id", "prediction", "error"]


def opinion_table(answers: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return all verifiers' answers as one table.

    Args:
        answers: verifier → columns prediction and error, in the order of the generated table.

    Returns:
        Columns verifier, row_id (the position in the generated table), prediction, error.
    """
    parts = [
        rows.assign(verifier=name, row_id=range(len(rows)))[_COLUMNS]
        for name, rows in answers.items()
    ]
    return pd.concat([pd.DataFrame(columns=_COLUMNS), *parts], ignore_index=True)


def read_opinions(names: Sequence[str], rows: int) -> dict[str, pd.DataFrame]:
    """Read data/opinions.csv.

    Args:
        names: the verifiers that must be in it.
        rows: how many rows the generated table has.

    Returns:
        Verifier → columns prediction and error, in the order of the generated table.

    Raises:
        UserError: the table was made with other verifiers, or for another set.
    """
    table = read_table(OPINIONS, _COLUMNS)
    positions = [str(i) for i in range(rows)]
    answers = {}
    for name in names:
        own = table[table["verifier"] == name].reset_index(drop=True)
        if own["row_id"].tolist() != positions:
            raise UserError(
                f"{OPINIONS} has {len(own):,} answers of {name} for {rows:,} questions: it was "
                "made with other settings or for another set. Run `dvc repro opinions`."
            )
        answers[name] = own[["prediction", "error"]]
    return answers
