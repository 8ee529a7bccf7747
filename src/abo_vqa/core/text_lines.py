"""The lines of a table's file, decompressed and decoded on the way: it is never whole in memory."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from abo_vqa.core.errors import UserError

_BLOCK = 1 << 20  # bytes decoded at a time
_GZIP_MAGIC = b"\x1f\x8b"
_WORKBOOK_MAGIC = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # xlsx and ods; xls
_REMEDY = "Save the table as a CSV in UTF-8 (Excel: CSV UTF-8)."


def read_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a table with their ends, without a byte order mark.

    Args:
        path: the file: UTF-8, or UTF-16 with a byte order mark; gzip or not.

    Raises:
        UserError: It is missing, a folder, damaged, a spreadsheet's own file, holds zero bytes, or
            is neither UTF-8 nor UTF-16.
    """
    if not path.is_file():
        raise UserError(f"no table at {path}. Check the path, or run the stage that makes it.")
    try:
        with path.open("rb") as raw:
            packed = raw.peek(2).startswith(_GZIP_MAGIC)
            with gzip.open(raw) if packed else raw as stream:
                yield from _lines(path, _blocks(path, stream))
    except OSError as error:
        raise UserError(
            f"{path} isn't a UTF-8 CSV with a header line: {error}. {_REMEDY}"
        ) from error


def _blocks(path: Path, stream: BinaryIO | gzip.GzipFile) -> Iterator[bytes]:
    """Yield a file's bytes.

    Raises:
        UserError: What gzip has compressed is damaged.
    """
    while True:
        try:
            block = stream.read(_BLOCK)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise UserError(
                f"{path} is a damaged gzip file: {error}. Copy or compress the table again."
            ) from error
        if not block:
            return
        yield block


def _lines(path: Path, blocks: Iterator[bytes]) -> Iterator[str]:
    """Yield the lines of a text.

    Raises:
        UserError: It is a workbook, holds zero bytes, or is in another encoding.
    """
    text, pieces = "", []  # pieces of a line whose end isn't there yet
    for text in _decoded(path, blocks):
        if "\0" in text:
            raise UserError(
                f"{path} isn't a UTF-8 CSV with a header line: it holds zero bytes. {_REMEDY}"
            )
        pieces.append(text)
        if "\n" in text or "\r" in text:
            lines = list(io.StringIO("".join(pieces), newline=""))
            pieces = [lines.pop()]  # even with an end: "\n" may follow "\r"
            yield from lines
    yield from io.StringIO("".join(pieces), newline="")


def _decoded(path: Path, blocks: Iterator[bytes]) -> Iterator[str]:
    """Yield a text block by block.

    Raises:
        UserError: It is a workbook, or neither UTF-8 nor UTF-16.
    """
    first = next(blocks, b"")
    if first.startswith(_WORKBOOK_MAGIC):
        raise UserError(
            f"{path} is a workbook of a spreadsheet program, or another packed file. Save the "
            "table as a CSV in UTF-8 (Excel: CSV UTF-8; VLMEvalKit: PRED_FORMAT=tsv)."
        )
    utf16 = first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    name = "utf-16" if utf16 else "utf-8"
    decoder = codecs.getincrementaldecoder("utf-16" if utf16 else "utf-8-sig")()
    done = 0  # bytes before the block
    for block in chain([first], blocks, [b""]):
        pending = len(decoder.getstate()[0])  # of a character that the last block has cut
        try:
            yield decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            place = done - pending + error.start
            raise UserError(
                f"{path} isn't a UTF-8 CSV with a header line: '{name}' codec can't decode the "
                f"byte at position {place}: {error.reason}. {_REMEDY}"
            ) from error
        done += len(block)
