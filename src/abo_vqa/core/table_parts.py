"""Tables too large for a CSV: a folder of Parquet parts, all of whose columns are texts.

    data/vqa.csv/part-00000.parquet
    data/vqa.csv/part-00001.parquet

Spark, DuckDB, Polars and pandas read such a folder as one table, and those that Spark writes are
read here. The bytes depend on the rows alone, not on the pieces in which they arrive.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet, types

from abo_vqa.core.errors import UserError
from abo_vqa.core.parquet_records import PARQUET_SUFFIX, open_parquet
from abo_vqa.core.text_columns import TEXT

PART_ROWS = 1 << 18
"""Rows of a part."""

GROUP_ROWS = 1 << 16
"""Rows of a row group: what is in memory at once."""

_NAME = "part-{:05}.parquet"
_OWN_NAME = re.compile(r"part-(\d{5})\.parquet")
_LISTED = 3  # names in a message
_WHAT_IS_ALLOWED = (
    "A table is a CSV file, or a folder of Parquet files with the same columns, all of them texts"
)


class PartWriter:
    """Writes tables of texts one below the other; at most a row group is in memory.

    Attributes:
        rows: how many there are.
    """

    def __init__(self, folder: Path) -> None:
        """Begin without a row.

        Args:
            folder: where the parts go, an empty one.
        """
        self.rows = 0
        self._folder = folder
        self._pending: list[pa.Table] = []
        self._pending_rows = 0
        self._files: list[Path] = []
        self._writer: parquet.ParquetWriter | None = None
        self._groups = 0  # in the part that is being written

    def write(self, table: pa.Table) -> None:
        """Add rows.

        Args:
            table: texts, of the same columns at every call.
        """
        self.rows += len(table)
        self._pending.append(table)
        self._pending_rows += len(table)
        if self._pending_rows < GROUP_ROWS:
            return
        rows = pa.concat_tables(self._pending)
        done = len(rows) - len(rows) % GROUP_ROWS
        for start in range(0, done, GROUP_ROWS):
            self._write_group(rows.slice(start, GROUP_ROWS))
        rest = rows.slice(done)
        self._pending, self._pending_rows = [rest], len(rest)

    def close(self) -> None:
        """Write what is left."""
        if self._pending_rows:
            self._write_group(pa.concat_tables(self._pending))
            self._pending, self._pending_rows = [], 0
        self.close_part()

    def read_back(self) -> Iterator[pa.Table]:
        """Yield all rows, those that are written and those that aren't yet."""
        self.close_part()
        for file in self._files:
            yield from _read_file(file, None, GROUP_ROWS)
        yield from self._pending

    def close_part(self) -> None:
        """Finish the file that is being written, if there is one."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _write_group(self, rows: pa.Table) -> None:
        if self._writer is None:
            file = self._folder / _NAME.format(len(self._files))
            self._writer = parquet.ParquetWriter(
                file, rows.schema, compression="zstd", store_schema=False
            )
            self._files.append(file)
            self._groups = 0
        # Where the pieces of a column begin would show in the bytes.
        self._writer.write_table(rows.combine_chunks(), row_group_size=GROUP_ROWS)
        self._groups += 1
        if self._groups == PART_ROWS // GROUP_ROWS:
            self.close_part()


def part_files(folder: Path) -> list[Path]:
    """Return the parts of a table, in the order of their rows.

    Args:
        folder: the table.

    Raises:
        UserError: The folder isn't a table, or a part is missing.
    """
    files = sorted(file for file in folder.iterdir() if file.name[0] not in "._")
    foreign = [file.name for file in files if file.suffix != PARQUET_SUFFIX]
    if foreign or not files:
        there = ", ".join(foreign[:_LISTED]) + (", …" if len(foreign) > _LISTED else "")
        raise UserError(
            f"{folder} is a folder that holds {there or 'nothing'}. {_WHAT_IS_ALLOWED}."
        )
    own = [_OWN_NAME.fullmatch(file.name) for file in files]
    numbers = [int(match[1]) for match in own if match]
    missing = sorted({*range(len(numbers))} - {*numbers})
    if missing and len(numbers) == len(files):
        raise UserError(
            f"{folder} lacks {_NAME.format(missing[0])}, though it holds {files[-1].name}. Copy "
            "the table again, or run the stage that makes it."
        )
    return files


def read_part_names(files: Sequence[Path]) -> list[str]:
    """Return the names of the columns.

    Args:
        files: the parts.

    Raises:
        UserError: A part is damaged, has other columns than the first, or columns that aren't
            texts.
    """
    expected: list[str] = []
    for file in files:
        with open_parquet(file) as part:
            schema = part.schema_arrow
        expected = expected or schema.names
        if schema.names != expected:
            raise UserError(
                f"{file} has the columns {', '.join(schema.names)}, and {files[0].name} has "
                f"{', '.join(expected)}. {_WHAT_IS_ALLOWED}, in the same order."
            )
        others = [f"{field.name} ({field.type})" for field in schema if not _is_text(field.type)]
        if others:
            raise UserError(
                f"{file} has columns that aren't texts: {', '.join(others)}. {_WHAT_IS_ALLOWED}: "
                "convert them where the table is made."
            )
    return expected


def read_parts(files: Sequence[Path], columns: Sequence[str], rows: int) -> Iterator[pa.Table]:
    """Yield a table's rows, in order.

    Args:
        files: the parts.
        columns: those to read.
        rows: maximum number at a time.

    Raises:
        UserError: A part is damaged.
    """
    for file in files:
        yield from _read_file(file, columns, rows)


def _read_file(file: Path, columns: Sequence[str] | None, rows: int) -> Iterator[pa.Table]:
    with open_parquet(file) as part:
        names = part.schema_arrow.names if columns is None else list(columns)
        for batch in part.iter_batches(rows, columns=names):
            arrays = [pc.fill_null(batch[name].cast(TEXT), "") for name in names]
            yield pa.table(arrays, pa.schema([(name, TEXT) for name in names]))


def _is_text(kind: pa.DataType) -> bool:
    return any(test(kind) for test in (types.is_string, types.is_large_string, types.is_null))
