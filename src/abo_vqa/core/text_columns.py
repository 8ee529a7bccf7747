"""Tables of strings: pandas over Arrow's arrays, in which a cell takes no object of its own."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

TEXT = pa.large_string()
"""The type of columns in Arrow: the other one, with offsets of 32 bits, ends at 2 GiB."""

_ROWS = 1 << 16  # that are held as Python's strings before they go to Arrow


class TextColumns:
    """Columns of strings that grow by rows; a row without a column has an empty cell in it."""

    def __init__(self) -> None:
        """Begin without any column."""
        self._columns: dict[str, _GrowingColumn] = {}
        self._rows = 0

    def append(self, row: Mapping[str, str]) -> None:
        """Add one row.

        Args:
            row: column → text.
        """
        for name, text in row.items():
            column = self._columns.get(name)
            if column is None:
                column = self._columns[name] = _GrowingColumn()
            column.texts.extend([""] * (self._rows - column.flushed - len(column.texts)))
            column.texts.append(text)
        self._rows += 1
        if self._rows % _ROWS == 0:
            for column in self._columns.values():
                column.flush()

    def frame(self, names: Iterable[str] = ()) -> pd.DataFrame:
        """Return the table, and forget it here.

        Args:
            names: columns that it has even without a row.
        """
        order = dict.fromkeys((*names, *self._columns))
        columns = {name: self._columns.pop(name, _GrowingColumn()) for name in order}
        return text_frame({name: column.finish(self._rows) for name, column in columns.items()})


class _GrowingColumn:
    """Texts, most of them in Arrow's arrays already."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.flushed = 0
        self._arrays: list[pa.Array] = []

    def flush(self) -> None:
        self._arrays.append(pa.array(self.texts, TEXT))
        self.flushed += len(self.texts)
        self.texts = []

    def finish(self, rows: int) -> pa.ChunkedArray:
        self.texts.extend([""] * (rows - self.flushed - len(self.texts)))
        self.flush()
        return pa.chunked_array(self._arrays, TEXT)


def text_frame(columns: dict[str, pa.ChunkedArray]) -> pd.DataFrame:
    """Return columns of texts as a frame of pandas' strings.

    Args:
        columns: name → texts. It is emptied, so that no two copies of a whole table are in memory.
    """
    whole = {}
    for name in list(columns):
        column = columns.pop(name)
        # pandas would join the chunks at every selection of rows.
        whole[name] = column.combine_chunks() if column.num_chunks > 1 else column
    table = pa.table(whole, pa.schema([(name, TEXT) for name in whole]))
    frame: pd.DataFrame = table.to_pandas(types_mapper={TEXT: _DTYPE}.get)
    return frame


def text_table(frame: pd.DataFrame) -> pa.Table:
    """Return a frame's cells as the texts that `DataFrame.to_csv` writes for them.

    Args:
        frame: what to convert; a missing value becomes "".
    """
    columns = {str(name): _texts(frame[name]) for name in frame}
    return pa.table(columns, pa.schema([(name, TEXT) for name in columns]))


def _texts(column: pd.Series) -> pa.Array:
    if isinstance(column.dtype, pd.StringDtype):
        array = pa.array(column, TEXT)
        array = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
        return pc.fill_null(array, "")
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "iufb":
        texts = column.to_numpy().astype(str).astype(object)
    else:
        texts = np.array([str(value) for value in column], dtype=object)
    missing = column.isna().to_numpy()
    texts[missing] = ""
    return pa.array(texts, TEXT)


def _text_dtype() -> Any:
    """Return the type that pandas 3 infers for strings: Arrow's, with NaN where one is missing."""
    try:
        return pd.StringDtype("pyarrow", na_value=np.nan)
    except TypeError:  # pandas 2.2
        return pd.StringDtype("pyarrow_numpy")


_DTYPE = _text_dtype()


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
