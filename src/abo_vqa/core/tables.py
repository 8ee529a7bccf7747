"""Tables: CSV files in which "None" stays an answer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from abo_vqa.core.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
from abo_vqa.core.files import atomic_write


def read_table(path: str | Path, required: Sequence[str] = ()) -> pd.DataFrame:
    """Read a CSV as strings: "None", "NA" and "" stay what they are.

    Raises:
        UserError: the file is missing, isn't a proper CSV (see `csvfile`), or doesn't have each
            required column once.
    """
    from abo_vqa.core.csvfile import read_csv

    parsed = read_csv(path)
    table = parsed.frame
    if doubled := [name for name in parsed.doubled if name in required]:
        raise UserError(f"{path} has several columns called {doubled[0]}. Remove all but one.")
    missing = [name for name in required if name not in table.columns]
    if missing:
        raise UserError(
            f"{path} lacks the column(s) {', '.join(missing)}; "
            f"it has {', '.join(map(str, table.columns))}."
        )
    return table


def write_table(table: pd.DataFrame, path: str | Path) -> Path:
    """Write a CSV atomically with Unix line ends, without the index."""
    with atomic_write(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")
    return Path(path)
