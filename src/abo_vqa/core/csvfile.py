"""CSV files read strictly: an ambiguous line is refused with its number, never repaired.

pandas fills short lines with empty cells, takes the first of two columns of one name and lets an
unclosed quote swallow the lines behind it, all silently. Python's `csv` tells where a record
starts and how many fields it has, so those are checked here.
"""

from __future__ import annotations

import csv
import re
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa

from abo_vqa.core.csv_lengths import WrongLengths
from abo_vqa.core.errors import UserError
from abo_vqa.core.text_columns import TEXT, text_frame
from abo_vqa.core.text_lines import read_lines

if TYPE_CHECKING:
    from numpy.typing import NDArray

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab"}
_EXCEL = re.compile(r'"?sep=."?\s*$', re.IGNORECASE)  # a first line that Excel writes and hides
_MAX_FIELD_SIZE = 1 << 24  # characters; csv's own limit of 131,072 cuts images in base64
_CHUNK_ROWS = 1 << 12  # that are in memory as Python's strings
_CHUNK_SIZE = 1 << 26  # characters of them: images in base64 are long


@dataclass(frozen=True)
class ParsedCsv:
    """A CSV file, or records in another format, as it stands.

    Attributes:
        frame: strings only. A column without a name is called "Unnamed: 0" after its position, the
            second of two columns of one name "answer.1", as pandas calls them.
        lines: [n] the line of the file each row starts on; the header stands on line 1. Of records:
            the number of each row's record, from 1.
        separator: ",", ";" or a tab; "" for records.
        header: the names as the file has them, without stray blanks.
        duplicate_names: names that several columns have.
        left_out: what of the file isn't in the frame, and why; "" if everything is.
    """

    frame: pd.DataFrame
    lines: NDArray[np.int64]
    separator: str
    header: tuple[str, ...]
    duplicate_names: tuple[str, ...]
    left_out: str = ""


def read_csv(path: str | Path) -> ParsedCsv:
    """Read a CSV whose first line is the header: UTF-8, any line ends, gzip or not.

    Fields are separated by commas, semicolons or tabs, whichever gives the header the most columns.

    Args:
        path: the file.

    Raises:
        UserError: There is no file, it isn't text or has no header, a line has more or fewer
            fields than the header, or a quote isn't closed where its field ends.
    """
    stream = CsvStream(Path(path))
    chunks = list(stream.chunks(stream.names))
    lines = [chunk.lines for chunk in chunks]
    columns = join_chunks([chunk.table for chunk in chunks], stream.names)
    del chunks
    return ParsedCsv(
        text_frame(columns),
        np.concatenate([np.empty(0, dtype=np.int64), *lines]),
        stream.separator,
        stream.header,
        stream.duplicate_names,
    )


@dataclass(frozen=True)
class CsvChunk:
    """Rows of a CSV.

    Attributes:
        table: texts only.
        lines: [n] the line of the file each row starts on.
    """

    table: pa.Table
    lines: NDArray[np.int64]


class CsvStream:
    """A CSV that is read in one pass, with little of it in memory.

    Attributes:
        path: the file.
        separator: see `ParsedCsv`, as all the others.
        header: the names as the file has them.
        names: the columns' names, each once.
        duplicate_names: names that several columns have.
    """

    def __init__(self, path: Path) -> None:
        """Read the header.

        Args:
            path: the file.

        Raises:
            UserError: see `read_csv`.
        """
        self.path = path
        self._lines = _RecordLines(read_lines(path))
        header = self._lines.peek_header()
        self.separator = max(
            SEPARATORS, key=lambda mark: len(next(csv.reader([header], delimiter=mark)))
        )
        self._reader = csv.reader(
            self._lines,
            delimiter=self.separator,
            strict=True,
            # a blank behind a separator is decoration, as the header shows
            skipinitialspace=f"{self.separator} " in header,
        )
        self._columns = 0
        with self._parsing():
            _, names = next(self._records(), (0, []))
        if not header.strip() or not names:
            raise UserError(f"{path} isn't a UTF-8 CSV with a header line: it is empty.")
        self.header = tuple(name.strip() for name in names)
        self._columns = len(self.header)
        self.names = _unique(self.header)
        self.duplicate_names = tuple(
            name for name, count in Counter(self.header).items() if count > 1 and name
        )

    def chunks(self, columns: Sequence[str], rows: int = _CHUNK_ROWS) -> Iterator[CsvChunk]:
        """Yield all rows, in order; rows behind one that is wrong aren't yielded.

        Args:
            columns: of `names`, those to return.
            rows: maximum number of a chunk's.

        Raises:
            UserError: see `read_csv`.
        """
        places = [self.names.index(name) for name in columns]
        wrong, width = WrongLengths(self._columns), self._columns
        records = self._records()
        while True:
            good: list[list[str]] = []
            starts, size = array("q"), self._lines.size
            with self._parsing():
                for start, record in records:
                    wrong.rows += 1
                    wrong.last_start = start
                    if len(record) != width:
                        wrong.add(start, record)
                    elif not wrong.count:
                        good.append(record)
                        starts.append(start)
                        if len(good) == rows or self._lines.size - size > _CHUNK_SIZE:
                            break
            if wrong.count:
                raise UserError(f"{self.path}: {wrong.describe()}")
            if not good:
                return
            texts = list(zip(*good, strict=True)) if places else []
            arrays = [pa.array(texts[place], TEXT) for place in places]
            table = pa.table(arrays, pa.schema([(name, TEXT) for name in columns]))
            yield CsvChunk(table, np.array(starts, dtype=np.int64))

    def tables(self, columns: Sequence[str], rows: int) -> Iterator[pa.Table]:
        """Yield all rows without their lines; see `chunks`.

        Args:
            columns: of `names`, those to return.
            rows: maximum number of a table's.
        """
        return (chunk.table for chunk in self.chunks(columns, min(rows, _CHUNK_ROWS)))

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the line each record starts on, and its fields; empty lines are left out.

        Raises:
            UserError: Whole lines stand inside quotes.
        """
        lines = self._lines
        for record in self._reader:
            start, inside = lines.start, lines.held[1:-1]
            lines.start += len(lines.held)
            lines.held.clear()
            if len(record) > 1 or (record and record[0].strip()):
                if inside and self._columns:
                    self._check_unclosed_quotes(start, inside)
                yield start, record

    @contextmanager
    def _parsing(self) -> Iterator[None]:
        """Let fields be long; turn csv's errors into a message."""
        before = csv.field_size_limit(_MAX_FIELD_SIZE)
        try:
            yield
        except csv.Error as error:
            raise UserError(
                f"{self.path}, line {self._lines.start}: a quote isn't closed where its field ends "
                f"({error}). A field with quotes, separators or line breaks must be quoted "
                '("…"), with its own quotes doubled ("").'
            ) from error
        finally:
            csv.field_size_limit(before)

    def _check_unclosed_quotes(self, start: int, inside: Sequence[str]) -> None:
        """Raise UserError if the inner lines of a record look like records themselves.

        With two columns one such line proves nothing (a sentence has a comma): all must look so.
        """
        columns = self._columns
        counts = [len(next(csv.reader([line], delimiter=self.separator), [])) for line in inside]
        alike = [count == columns for count in counts if count]
        if columns > 1 and alike and (any(alike) if columns > 2 else all(alike)):
            raise UserError(
                f"{self.path}: a quote opened on line {start} is only closed on line "
                f"{start + len(inside) + 1}, with whole rows in between. Close it, or double it if "
                "it is part of the text."
            )


class _RecordLines:
    """Lines of text that remembers those of the record that is being parsed.

    Attributes:
        held: the record's lines so far.
        start: the number of its first line.
        size: characters of all lines so far.
    """

    def __init__(self, lines: Iterator[str]) -> None:
        self.held: list[str] = []
        self.start = 1
        self.size = 0
        self._lines = lines

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.held.append(line)
        self.size += len(line)
        return line

    def peek_header(self) -> str:
        """Return the first line with a text, "" if there is none; iteration begins before it."""
        skipped: list[str] = []
        for line in self._lines:
            # The header shows the separator itself.
            skipped.append("\n" if not skipped and _EXCEL.match(line) else line)
            if skipped[-1].strip():
                break
        self._lines = chain(skipped, self._lines)
        return skipped[-1] if skipped else ""


def join_chunks(tables: list[pa.Table], names: Sequence[str]) -> dict[str, pa.ChunkedArray]:
    """Return the columns of tables one below the other.

    Args:
        tables: texts only.
        names: their columns, even if there is no table.
    """
    return {
        name: pa.chunked_array([part for t in tables for part in t[name].chunks], TEXT)
        for name in names
    }


def _unique(header: Sequence[str]) -> list[str]:
    """Make column names without gaps and repetitions, as pandas does."""
    names: list[str] = []
    for place, name in enumerate(header):
        base = name or f"Unnamed: {place}"
        candidate, count = base, 0
        while candidate in names:
            count += 1
            candidate = f"{base}.{count}"
        names.append(candidate)
    return names
