"""CSV files read strictly: an ambiguous line is refused with its number, never repaired.

pandas fills short lines with empty cells, takes the first of two columns of one name and lets an
unclosed quote swallow the lines behind it, all silently. Python's `csv` tells where a record
starts and how many fields it has, so those are checked here.
"""

from __future__ import annotations

import csv
import gzip
import io
import operator
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from abo_vqa.core.errors import UserError
from abo_vqa.core.files import decode_text
from abo_vqa.core.text_columns import TextColumns

if TYPE_CHECKING:
    from numpy.typing import NDArray

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab"}
_WORKBOOK_MAGIC = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # xlsx and ods; xls
_EXCEL = re.compile(r'"?sep=."?\s*$', re.IGNORECASE)  # a first line that Excel writes and hides
_MAX_FIELD_SIZE = 1 << 24  # characters; csv's own limit of 131,072 cuts images in base64
_SHOWN = 3  # places named in a message


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
    path = Path(path)
    lines = list(io.StringIO(_read_text(path), newline=""))
    if lines and _EXCEL.match(lines[0]):
        lines[0] = "\n"  # the header shows the separator itself
    header = next((line for line in lines if line.strip()), None)
    if header is None:
        raise UserError(f"{path} isn't a UTF-8 CSV with a header line: it is empty.")
    separator = max(SEPARATORS, key=lambda mark: len(next(csv.reader([header], delimiter=mark))))
    records = _records(path, lines, separator, skip_initial_space=f"{separator} " in header)
    names = [name.strip() for name in next(records)[1]]
    unique = _unique(names)
    columns, starts, wrong = TextColumns(), [], []
    for start, record in records:
        starts.append(start)
        if len(record) == len(names):
            columns.append(dict(zip(unique, record, strict=True)))
        else:
            wrong.append((start, record))
    _check_lengths(path, wrong, starts, len(names))
    duplicate_names = tuple(name for name, count in Counter(names).items() if count > 1 and name)
    return ParsedCsv(
        columns.frame(unique),
        np.asarray(starts, dtype=np.int64),
        separator,
        tuple(names),
        duplicate_names,
    )


def _read_text(path: Path) -> str:
    """Read a text file without its byte order mark.

    Raises:
        UserError: It is missing, a folder, damaged, a spreadsheet's own file, or neither UTF-8 nor
            UTF-16.
    """
    if not path.is_file():
        raise UserError(f"no table at {path}. Check the path, or run the stage that makes it.")
    try:
        data = _decompressed(path.read_bytes(), path)
        if data.startswith(_WORKBOOK_MAGIC):
            raise UserError(
                f"{path} is a workbook of a spreadsheet program, or another packed file. Save the "
                "table as a CSV in UTF-8 (Excel: CSV UTF-8; VLMEvalKit: PRED_FORMAT=tsv)."
            )
        text = decode_text(data)
    except (UnicodeDecodeError, OSError) as error:
        raise UserError(
            f"{path} isn't a UTF-8 CSV with a header line: {error}. "
            "Save the table as a CSV in UTF-8 (Excel: CSV UTF-8)."
        ) from error
    if "\0" in text:
        raise UserError(
            f"{path} isn't a UTF-8 CSV with a header line: it holds zero bytes. "
            "Save the table as a CSV in UTF-8 (Excel: CSV UTF-8)."
        )
    return text


def _decompressed(data: bytes, path: Path) -> bytes:
    """Decompress what gzip has compressed.

    Raises:
        UserError: It is damaged.
    """
    if not data.startswith(b"\x1f\x8b"):
        return data
    try:
        return gzip.decompress(data)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(
            f"{path} is a damaged gzip file: {error}. Copy or compress the table again."
        ) from error


def _records(
    path: Path, lines: Sequence[str], separator: str, skip_initial_space: bool
) -> Iterator[tuple[int, list[str]]]:
    """Yield all records, the header first; empty lines are left out.

    Args:
        path: the file, for messages.
        lines: its lines.
        separator: what separates fields.
        skip_initial_space: a blank behind a separator is decoration, as the header shows.

    Yields:
        The line each record starts on, and its fields.

    Raises:
        UserError: A quote isn't closed where its field ends, or whole lines stand inside quotes.
    """
    columns = 0
    reader = csv.reader(
        lines, delimiter=separator, strict=True, skipinitialspace=skip_initial_space
    )
    before = csv.field_size_limit(_MAX_FIELD_SIZE)
    start = 1
    try:
        for record in reader:
            if any(field.strip() for field in record) or len(record) > 1:
                if columns and reader.line_num > start:
                    inside = lines[start : reader.line_num - 1]
                    _check_unclosed_quotes(path, start, inside, separator, columns)
                columns = columns or len(record)
                yield start, record
            start = reader.line_num + 1
    except csv.Error as error:
        raise UserError(
            f"{path}, line {start}: a quote isn't closed where its field ends ({error}). A field "
            'with quotes, separators or line breaks must be quoted ("…"), with its own quotes '
            'doubled ("").'
        ) from error
    finally:
        csv.field_size_limit(before)


def _check_unclosed_quotes(
    path: Path, start: int, inside: Sequence[str], separator: str, columns: int
) -> None:
    """Raise UserError if the inner lines of a record look like records themselves.

    With two columns one such line proves nothing (a sentence has a comma): all must look so.
    """
    counts = [len(next(csv.reader([line], delimiter=separator), [])) for line in inside]
    alike = [count == columns for count in counts if count]
    if columns > 1 and alike and (any(alike) if columns > 2 else all(alike)):
        raise UserError(
            f"{path}: a quote opened on line {start} is only closed on line "
            f"{start + len(inside) + 1}, with whole rows in between. Close it, or double it if it "
            "is part of the text."
        )


def _check_lengths(
    path: Path, wrong: Sequence[tuple[int, list[str]]], starts: Sequence[int], columns: int
) -> None:
    """Raise UserError if a row doesn't have one field per column.

    Args:
        path: the file, for messages.
        wrong: the rows that don't, each with the line it starts on.
        starts: the lines on which all rows start.
        columns: how many there are.
    """
    if not wrong:
        return
    counts = {len(row) for _, row in wrong}
    few, many = (any(test(n, columns) for n in counts) for test in (operator.lt, operator.gt))
    kind = "fewer or more" if few and many else "fewer" if few else "more"
    places = ", ".join(f"line {start} has {len(row)}" for start, row in wrong[:_SHOWN])
    more = f" and {len(wrong) - _SHOWN:,} others" if len(wrong) > _SHOWN else ""
    raise UserError(
        f"{path}: {len(wrong):,} line(s) have {kind} fields than the header, which has {columns}: "
        f"{places}{more}. {_hint(wrong, starts, columns)}"
    )


def _hint(wrong: Sequence[tuple[int, list[str]]], starts: Sequence[int], columns: int) -> str:
    """Guess what is wrong with lines of the wrong length."""
    counts = {len(row) for _, row in wrong}
    if len(wrong) == len(starts) and len(counts) == 1:
        if columns > 1 and counts == {1}:
            return "Do the lines have another separator than the header?"
        if all(row[columns:] and not any(row[columns:]) for _, row in wrong):
            return "Each line ends in separators that the header lacks: remove them."
        return "All lines agree, so the header may be wrong: is it the first line of the file?"
    hints = []
    if any(count > columns for count in counts):
        hints.append("Text with separators needs quotes.")
    if any(count < columns for count in counts):
        cut = wrong[-1][0] == starts[-1]
        hints.append(
            "Was the file cut off?" if cut else "Empty fields still need their separators."
        )
    return " ".join(hints)


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
