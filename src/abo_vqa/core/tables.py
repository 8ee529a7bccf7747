"""Tables of texts: CSV files in which "None" stays an answer; large ones are folders of Parquet.

A stage writes `data/vqa.csv` and reads it, and need not know in which of the two layouts it is.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import MappingProxyType, TracebackType

import pandas as pd
import pyarrow as pa

from abo_vqa.core.csvfile import CsvStream
from abo_vqa.core.errors import UserError
from abo_vqa.core.files import atomic_write, replace_folder
from abo_vqa.core.table_parts import (
    GROUP_ROWS,
    PartWriter,
    part_files,
    read_part_names,
    read_parts,
)
from abo_vqa.core.text_columns import TEXT, text_frame, text_table

PARTITION_ROWS = 1_000_000
"""Rows up to which a table is a CSV.

It isn't among the settings: the layout would be an output's, and DVC would have to run every stage
again that writes a table.
"""

STUDY_COLUMNS = MappingProxyType({"path": "image_path"})
"""Columns that the study's tables, and this project's until 0.2, call by another name."""

_NO_ALIASES: Mapping[str, str] = MappingProxyType({})


def read_table(
    path: str | Path,
    required: Sequence[str] = (),
    aliases: Mapping[str, str] = _NO_ALIASES,
    columns: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Read a table as strings: "None", "NA" and "" stay what they are.

    Args:
        path: a CSV file, or a folder of Parquet parts.
        required: columns that the table must have.
        aliases: other names of columns; such a column is renamed if the table has none of the
            proper name.
        columns: the only ones to read, in this order, which it must have as well. The others take
            no memory.

    Returns:
        The table, all of whose columns are strings.

    Raises:
        UserError: There is no table, it isn't a proper CSV (see `csvfile`) or a folder of parts,
            or doesn't have each required column once.
    """
    table = _open(Path(path), required, aliases, columns)
    pieces = list(table.chunks(GROUP_ROWS))
    whole: dict[str, pa.ChunkedArray] = {}
    for source, name in table.names.items():
        parts = [part for piece in pieces for part in piece[source].chunks]
        whole[name] = pa.chunked_array(parts, TEXT)
    pieces.clear()
    return text_frame(whole)


def iter_table(
    path: str | Path,
    columns: Sequence[str] | None = None,
    rows: int = GROUP_ROWS,
    required: Sequence[str] = (),
    aliases: Mapping[str, str] = _NO_ALIASES,
) -> Iterator[pd.DataFrame]:
    """Read a table piece by piece, for tables that don't fit into memory.

    Args:
        path: see `read_table`.
        columns: see `read_table`.
        rows: of a piece; the last may have fewer. Where pieces begin doesn't depend on the layout.
        required: see `read_table`.
        aliases: see `read_table`.

    Returns:
        The pieces, indexed as in the whole table; of a table without rows one, which has the
        columns.

    Raises:
        UserError: see `read_table`. A wrong line of a CSV is noticed when it is reached.
    """
    return _frames(_open(Path(path), required, aliases, columns), rows)


def table_columns(path: str | Path) -> list[str]:
    """Return the names of a table's columns without reading its rows.

    Args:
        path: see `read_table`.

    Raises:
        UserError: see `read_table`.
    """
    return list(_open(Path(path), (), _NO_ALIASES, None).names)


def table_files(path: str | Path) -> list[Path]:
    """Return the files that hold a table: itself, or its parts; none if there is no table.

    Args:
        path: see `read_table`.

    Raises:
        UserError: It is a folder that isn't a table.
    """
    path = Path(path)
    return part_files(path) if path.is_dir() else [path] if path.exists() else []


def write_table(table: pd.DataFrame, path: str | Path) -> Path:
    """Write a table atomically, without the index, in place of a former one of either layout.

    Args:
        table: what to write.
        path: the CSV file, with Unix line ends. Of more than `PARTITION_ROWS` rows it becomes a
            folder of Parquet parts, with the texts that the CSV would have.

    Returns:
        The path.

    Raises:
        UserError: There is a folder that isn't a table.
    """
    path = Path(path)
    if len(table) <= PARTITION_ROWS:
        _write_csv([table], path)
        return path
    with TableWriter(path) as writer:
        for start in range(0, len(table), GROUP_ROWS):
            writer.write(table.iloc[start : start + GROUP_ROWS])
    return path


class TableWriter:
    """Writes a table piece by piece; how many rows there are decides on its layout.

        with TableWriter(path) as writer:
            for piece in pieces:
                writer.write(piece)

    If the block fails, a former table stays. The bytes are those that `write_table` writes.
    """

    def __init__(self, path: str | Path, columns: Sequence[str] = ()) -> None:
        """Check the place.

        Args:
            path: see `write_table`.
            columns: the table's, for one that may have no row.

        Raises:
            UserError: There is a folder that isn't a table.
        """
        self._path = Path(path)
        _refuse_other_folder(self._path)
        self._columns = list(columns)
        self._staged = self._path.with_name(f".{self._path.name}.partial")
        self._parts = PartWriter(self._staged)

    def __enter__(self) -> TableWriter:
        shutil.rmtree(self._staged, ignore_errors=True)
        self._staged.mkdir(parents=True)
        return self

    def write(self, rows: pd.DataFrame) -> None:
        """Add rows.

        Args:
            rows: of the same columns at every call.
        """
        table = text_table(rows)
        self._columns = self._columns or table.column_names
        self._parts.write(table.select(self._columns))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._parts.close_part()
            shutil.rmtree(self._staged, ignore_errors=True)

    def _finish(self) -> None:
        if self._parts.rows > PARTITION_ROWS:
            self._parts.close()
            replace_folder(self._staged, self._path)
            return
        empty = pa.schema([(name, TEXT) for name in self._columns]).empty_table()
        pieces = chain([empty], self._parts.read_back())
        _write_csv((_frame(piece) for piece in pieces), self._path)


@dataclass(frozen=True)
class _Source:
    """A table that is about to be read.

    Attributes:
        names: the columns to read: name in the file → in the frame.
        chunks: maximum rows of a chunk → the chunks.
    """

    names: Mapping[str, str]
    chunks: Callable[[int], Iterator[pa.Table]]


def _open(
    path: Path,
    required: Sequence[str],
    aliases: Mapping[str, str],
    columns: Sequence[str] | None,
) -> _Source:
    """Find the columns of a table of either layout; see `read_table`."""
    if path.is_dir():
        files = part_files(path)
        names: Sequence[str] = read_part_names(files)
        doubled = [name for name, count in Counter(names).items() if count > 1]
    else:
        stream = CsvStream(path)
        names, doubled = stream.names, list(stream.duplicate_names)
    new = {alias: name for alias, name in aliases.items() if name not in names}
    renamed = {name: new.get(name, name) for name in names}
    needed = list(dict.fromkeys([*required, *(columns or ())]))
    if twice := [name for name in doubled if new.get(name, name) in needed]:
        raise UserError(f"{path} has several columns called {twice[0]}. Remove all but one.")
    if missing := [name for name in needed if name not in renamed.values()]:
        raise UserError(
            f"{path} lacks the column(s) {', '.join(missing)}; "
            f"it has {', '.join(renamed.values())}."
        )
    if columns is not None:
        sources = {name: source for source, name in renamed.items()}
        renamed = {sources[name]: name for name in columns}
    if path.is_dir():
        return _Source(renamed, lambda rows: read_parts(files, list(renamed), rows))
    return _Source(renamed, lambda rows: stream.tables(list(renamed), rows))


def _frames(source: _Source, rows: int) -> Iterator[pd.DataFrame]:
    """Yield frames of `rows` rows each; see `iter_table`."""
    start = 0
    for piece in _in_pieces(source.chunks(rows), rows):
        frame = _frame(piece.rename_columns(list(source.names.values())))
        frame.index = pd.RangeIndex(start, start + len(frame))
        start += len(frame)
        yield frame
    if not start:
        yield text_frame({name: pa.chunked_array([], TEXT) for name in source.names.values()})


def _in_pieces(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """Yield the rows of tables in pieces of the same size; only the last may be smaller."""
    pending: list[pa.Table] = []
    count = 0
    for table in tables:
        pending.append(table)
        count += len(table)
        while count >= rows:
            joined = pa.concat_tables(pending)
            yield joined.slice(0, rows)
            pending, count = [joined.slice(rows)], count - rows
    if count:
        yield pa.concat_tables(pending)


def _frame(table: pa.Table) -> pd.DataFrame:
    return text_frame({name: table[name] for name in table.column_names})


def _write_csv(pieces: Iterable[pd.DataFrame], path: Path) -> None:
    """Write frames of the same columns one below the other."""
    _refuse_other_folder(path)
    former = path.with_name(f".{path.name}.old")
    with atomic_write(path) as temporary:
        for number, piece in enumerate(pieces):
            piece.to_csv(
                temporary,
                index=False,
                lineterminator="\n",
                header=not number,
                mode="a" if number else "w",
            )
        if path.is_dir():
            shutil.rmtree(former, ignore_errors=True)
            path.rename(former)
    shutil.rmtree(former, ignore_errors=True)


def _refuse_other_folder(path: Path) -> None:
    """Raise UserError if writing a table would remove a folder that isn't one."""
    if path.is_dir() and any(path.iterdir()):
        part_files(path)
