"""Rows of texts in Arrow's memory: a dict for each of millions would take ten times as much.

Texts that repeat within some thousands of rows, such as the path of an image or its product type,
are kept once.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import overload

import pandas as pd
import pyarrow as pa

from abo_vqa.core.tables import TableWriter, iter_table
from abo_vqa.core.text_columns import TEXT, text_table

_CHUNK = 1 << 12  # rows that are Python's objects at a time

_Row = dict[str, str]


class RowList(Sequence[_Row]):
    """Rows of the same columns, which become dicts as they are asked for.

    A dict is a copy: changing it changes nothing here.

    Args:
        rows: the first ones.
    """

    def __init__(self, rows: Iterable[Mapping[str, str]] = ()) -> None:
        self._chunks: list[pa.Table] = []
        self._ends: list[int] = []
        self._latest: list[_Row] = []
        self.extend(rows)

    @classmethod
    def read(
        cls, path: Path, required: Sequence[str] = (), aliases: Mapping[str, str] | None = None
    ) -> RowList:
        """Read a table.

        Args:
            path: see `read_table`.
            required: see `read_table`.
            aliases: see `read_table`.

        Raises:
            UserError: see `read_table`.
        """
        rows = cls()
        for piece in iter_table(path, rows=_CHUNK, required=required, aliases=aliases or {}):
            rows._add(text_table(piece))
        return rows

    def append(self, row: Mapping[str, str]) -> None:
        """Add a row.

        Args:
            row: column → text.

        Raises:
            KeyError: it lacks a column that the rows before it have.
        """
        self._latest.append(dict(row))
        if len(self._latest) >= _CHUNK:
            names = list(self._latest[0])
            columns = [pa.array([row[name] for row in self._latest], TEXT) for name in names]
            self._latest = []
            self._add(pa.table(columns, names))

    def extend(self, rows: Iterable[Mapping[str, str]]) -> None:
        """Add rows.

        Args:
            rows: see `append`.
        """
        for row in rows:
            self.append(row)

    def _add(self, chunk: pa.Table) -> None:
        """Add rows behind those that are in Arrow's memory."""
        if len(chunk):
            columns = [column.dictionary_encode() for column in chunk.columns]
            self._chunks.append(pa.table(columns, chunk.column_names))
            self._ends.append(len(chunk) + (self._ends[-1] if self._ends else 0))

    def pieces(self) -> Iterator[list[_Row]]:
        """Yield the rows, some thousands at a time."""
        for chunk in self._chunks:
            yield _dicts(chunk)
        if self._latest:
            yield [dict(row) for row in self._latest]

    def __iter__(self) -> Iterator[_Row]:
        """Yield the rows."""
        for piece in self.pieces():
            yield from piece

    def __len__(self) -> int:
        """Return the number of rows."""
        return (self._ends[-1] if self._ends else 0) + len(self._latest)

    @overload
    def __getitem__(self, place: int) -> _Row: ...
    @overload
    def __getitem__(self, place: slice) -> list[_Row]: ...
    def __getitem__(self, place: int | slice) -> _Row | list[_Row]:
        """Return a row, or a list of some."""
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        number = range(len(self))[place]
        at = bisect_right(self._ends, number)
        if at == len(self._chunks):
            return dict(self._latest[number - (self._ends[-1] if self._ends else 0)])
        start = self._ends[at - 1] if at else 0
        return _dicts(self._chunks[at].slice(number - start, 1))[0]


def _dicts(chunk: pa.Table) -> list[_Row]:
    """Return the rows of a chunk as dicts."""
    names = chunk.column_names
    texts = (column.cast(TEXT).to_pylist() for column in chunk.columns)
    return [dict(zip(names, row, strict=True)) for row in zip(*texts, strict=True)]


def write_rows(
    rows: Iterable[Mapping[str, str]], path: Path, columns: list[str] | None = None
) -> Path:
    """Write rows as a table, some thousands at a time.

    Args:
        rows: all have the same columns.
        path: see `write_table`.
        columns: the table's, which rows needn't be asked for; None for the rows' own.

    Returns:
        The path.

    Raises:
        UserError: see `write_table`.
    """
    with TableWriter(path, columns or ()) as writer:
        piece: list[Mapping[str, str]] = []
        for row in rows:
            piece.append(row)
            if len(piece) == _CHUNK:
                writer.write(pd.DataFrame(piece, columns=columns))
                piece = []
        if piece:
            writer.write(pd.DataFrame(piece, columns=columns))
    return path
