"""Tables: CSV files in which "None" stays an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import pandas as pd

from abo_vqa.core.csvfile import read_csv
from abo_vqa.core.errors import UserError
from abo_vqa.core.files import atomic_write

STUDY_COLUMNS = MappingProxyType({"path": "image_path"})
"""Columns that the study's tables, and this project's until 0.2, call by another name."""


def read_table(
    path: str | Path,
    required: Sequence[str] = (),
    aliases: Mapping[str, str] = MappingProxyType({}),
) -> pd.DataFrame:
    """Read a CSV as strings: "None", "NA" and "" stay what they are.

    Args:
        path: the file.
        required: columns that the table must have.
        aliases: other names of columns; such a column is renamed if the table has none of the
            proper name.

    Returns:
        The table, all of whose columns are strings.

    Raises:
        UserError: The file is missing, isn't a proper CSV (see `csvfile`), or doesn't have each
            required column once.
    """
    parsed = read_csv(path)
    names = {alias: name for alias, name in aliases.items() if name not in parsed.header}
    table = parsed.frame.rename(columns=names)
    if twice := [name for name in parsed.duplicate_names if names.get(name, name) in required]:
        raise UserError(f"{path} has several columns called {twice[0]}. Remove all but one.")
    missing = [name for name in required if name not in table.columns]
    if missing:
        raise UserError(
            f"{path} lacks the column(s) {', '.join(missing)}; "
            f"it has {', '.join(map(str, table.columns))}."
        )
    return table


def write_table(table: pd.DataFrame, path: str | Path) -> Path:
    """Write a CSV atomically with Unix line ends, without the index.

    Args:
        table: what to write.
        path: the file.

    Returns:
        The path.
    """
    with atomic_write(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")
    return Path(path)
