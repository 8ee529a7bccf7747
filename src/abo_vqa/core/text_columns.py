"""Tables of strings, built column by column: a row takes no object of its own.

A text that stands in many rows of a column, such as an answer, is kept once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd


class TextColumns:
    """Columns of strings that grow by rows; a row without a column has an empty cell in it."""

    def __init__(self) -> None:
        """Begin without any column."""
        self._columns: dict[str, list[str]] = {}
        self._texts: dict[str, dict[str, str]] = {}
        self.rows = 0

    def append(self, row: Mapping[str, str]) -> None:
        """Add one row.

        Args:
            row: column → text.
        """
        for name, text in row.items():
            if name not in self._columns:
                self._columns[name], self._texts[name] = [], {}
            column = self._columns[name]
            column.extend([""] * (self.rows - len(column)))
            column.append(self._texts[name].setdefault(text, text))
        self.rows += 1

    def frame(self, names: Iterable[str] = ()) -> pd.DataFrame:
        """Return the table, and forget it here.

        Args:
            names: columns that it has even without a row.

        Returns:
            All columns hold Python's strings.
        """
        self._texts.clear()
        order = dict.fromkeys((*names, *self._columns))
        columns = {name: self._columns.pop(name, []) for name in order}
        for column in columns.values():
            column.extend([""] * (self.rows - len(column)))
        return pd.DataFrame(columns, columns=list(columns), dtype=object)


def cell_text(value: Any) -> str:
    """Return a cell's text: none for null, JSON for what is nested.

    Args:
        value: what JSON or Parquet holds.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | list | dict):
        return json.dumps(value, default=str)
    return str(value)


def is_clean(text: str) -> bool:
    """Whether a text has no zero bytes, and can be written as UTF-8: JSON's escapes may not."""
    return "\0" not in text and (
        text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)
    )
