"""The files of vision outputs of images that differ in their number of tokens."""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from abo_vqa.core.log import get_logger
from abo_vqa.core.system_errors import report_full_disk
from abo_vqa.core.vector_files import VECTORS_FILE, shard_name, vector_files
from abo_vqa.models.embeddings import files
from abo_vqa.models.embeddings.builder import (
    STORED_DTYPES,
    WrittenShard,
    device_of,
    require_space,
)

logger = get_logger(__name__)

_JOURNAL_FILE = "blocks.jsonl"
_HEADER = 128  # bytes of NumPy's header, which leaves room for a longer first dimension


@dataclass
class _Extent:
    """How much a file holds."""

    images: int = 0
    tokens: int = 0


@dataclass
class _State:
    """What the blocks so far hold.

    Attributes:
        itemsize: bytes of a number.
        done: their number.
        digest: of all vectors, in a chain; see `EmbeddingBuilder`.
        width: V; 0 while no image could be read.
        tokens: T of each image, 0 where it couldn't be read.
        lines: the different lines of text, each with its number.
        texts: the number of each image's line.
        errors: path → why the image can't be read.
        extents: how much each file holds; all but the last are complete.
    """

    itemsize: int
    done: int = 0
    digest: str = ""
    width: int = 0
    tokens: array[int] = field(default_factory=lambda: array("i"))
    lines: dict[str, int] = field(default_factory=dict)
    texts: array[int] = field(default_factory=lambda: array("i"))
    errors: dict[str, str] = field(default_factory=dict)
    extents: list[_Extent] = field(default_factory=lambda: [_Extent()])

    def end(self, number: int) -> int:
        """Return the size of a file.

        Args:
            number: of the file; it may not have been begun.
        """
        if self.width == 0 or number >= len(self.extents):
            return 0
        return _HEADER + self.extents[number].tokens * self.width * self.itemsize

    def place(self, tokens: Sequence[int], width: int) -> list[int]:
        """Return the numbers of the files that the next images go to.

        A file is full when the next image would exceed its room, which doesn't depend on the
        blocks that images come in.

        Args:
            tokens: T of each image.
            width: V.
        """
        number, used = len(self.extents) - 1, self.extents[-1].tokens
        numbers = []
        for count in tokens:
            if used and count and (used + count) * width * self.itemsize > files.SHARD_BYTES:
                number, used = number + 1, 0
            used += count
            numbers.append(number)
        return numbers

    def add(self, block: Mapping[str, Any]) -> None:
        """Add what a line of the journal says.

        Args:
            block: the line.
        """
        self.done += 1
        self.digest, self.width = str(block["digest"]), int(block["width"])
        for number, tokens in zip(
            self.place(block["tokens"], self.width), block["tokens"], strict=True
        ):
            if number == len(self.extents):
                self.extents.append(_Extent())
            self.extents[number].images += 1
            self.extents[number].tokens += tokens
        self.tokens.extend(block["tokens"])
        self.lines |= {line: len(self.lines) + i for i, line in enumerate(block["lines"])}
        self.texts.extend(block["texts"])
        self.errors |= block["errors"]


class RaggedEmbeddingBuilder:
    """Files of vectors [S, V] in the scratch folder, the S tokens of all images in their order.

    Blocks are appended in order, and a line of the journal counts one once it is on disk: what a
    killed process has written after the last line is cut off.

    Args:
        folder: the scratch folder.
        count: number of images.
        dtype: the dtype they are stored in.
        out: the folder that the finished files go to.
        uploaded: the number of files that went to object storage, as each does that is complete;
            None if they stay.

    Attributes:
        dtype: see above.
    """

    def __init__(
        self, folder: Path, count: int, dtype: str, out: Path, uploaded: int | None = None
    ) -> None:
        self._folder, self._count, self._out, self.dtype = folder, count, out, dtype
        self._uploaded = uploaded
        self._dtype = np.dtype(STORED_DTYPES[dtype])
        self._journal = folder / _JOURNAL_FILE
        self._state = self._load()
        if self._state.done == 0:
            self._journal.unlink(missing_ok=True)
            for file in vector_files(folder):
                file.unlink()

    def _file(self, number: int) -> Path:
        """A file in the scratch folder, where it isn't known yet whether there will be others."""
        return self._folder / (shard_name(number) if number else VECTORS_FILE)

    @staticmethod
    def recorded(folder: Path) -> int:
        """Return how many blocks an earlier process has written.

        Args:
            folder: the scratch folder.
        """
        journal = folder / _JOURNAL_FILE
        if not journal.is_file():
            return 0
        with journal.open("rb") as lines:
            return sum(line.endswith(b"\n") for line in lines)

    @property
    def done(self) -> int:
        """The number of blocks it holds."""
        return self._state.done

    @property
    def errors(self) -> dict[str, str]:
        """Path → why the image can't be read."""
        return self._state.errors

    @property
    def digest(self) -> str:
        """Of all vectors so far, in a chain."""
        return self._state.digest

    @property
    def shards(self) -> list[WrittenShard]:
        """The files, in order, each of whole images."""
        extents = enumerate(self._state.extents)
        return [WrittenShard(self._file(i), each.images, each.tokens) for i, each in extents]

    @property
    def complete(self) -> list[WrittenShard]:
        """The files that no image will be added to, all but the last one."""
        return self.shards[:-1]

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of a row of their arrays."""
        return (self._state.width,)

    @property
    def sizes(self) -> dict[str, int]:
        """Images, tokens of all of them together, and width."""
        tokens = sum(self._state.tokens)
        return {"images": self._count, "tokens": tokens, "width": self._state.width}

    @property
    def columns(self) -> dict[str, Sequence[int]]:
        """T of each image, and the number of its line of text."""
        return {"tokens": self._state.tokens, "text": self._state.texts}

    @property
    def lines(self) -> list[str]:
        """The different lines of text."""
        return list(self._state.lines)

    def _load(self) -> _State:
        """Return what an earlier process has written; nothing if it is damaged."""
        state = _State(self._dtype.itemsize)
        if not self._journal.is_file():
            return state
        whole = 0  # bytes
        try:
            with self._journal.open("rb") as lines:
                for line in lines:
                    if line.endswith(b"\n"):  # the last one may be torn
                        state.add(json.loads(line))
                        whole += len(line)
            for number in range(self._uploaded or 0, len(state.extents)):
                self._check(state, number)
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            logger.warning(f"{self._journal.parent} is damaged ({error}): starting over.")
            return _State(self._dtype.itemsize)
        with self._journal.open("r+b") as handle:
            handle.truncate(whole)
        return state

    def _check(self, state: _State, number: int) -> None:
        """Refuse a file that doesn't hold what the journal counts.

        Raises:
            ValueError: it doesn't.
        """
        file, end = self._file(number), state.end(number)
        size = file.stat().st_size if file.is_file() else 0
        complete = number < len(state.extents) - 1
        if size < end or (complete and size != end):
            raise ValueError(f"{file.name}: {size} bytes of {end}")

    def add(
        self, rows: Mapping[int, np.ndarray], errors: Mapping[str, str], texts: Mapping[int, str]
    ) -> None:
        """Append one block.

        Args:
            rows: position → vectors [T, V]; positions of the block that are missing have errors.
            errors: path → why the image can't be read.
            texts: position → line of text.
        """
        state = self._state
        start = len(state.tokens)
        positions = range(start, start + len(rows) + len(errors))
        vectors = {row: np.ascontiguousarray(values) for row, values in rows.items()}
        width = state.width or next((values.shape[1] for values in vectors.values()), 0)
        digest = state.digest
        for row, values in sorted(vectors.items()):
            content = hashlib.md5(f"{digest} {row} ".encode())
            content.update(values.data)
            digest = content.hexdigest()
        lines = dict(state.lines)
        text_numbers = [lines.setdefault(texts.get(row, ""), len(lines)) for row in positions]
        tokens = [len(vectors.get(row, ())) for row in positions]
        block = {
            "digest": digest,
            "width": width,
            "tokens": tokens,
            "lines": list(lines)[len(state.lines) :],
            "texts": text_numbers,
            "errors": dict(errors),
        }
        numbers = dict(zip(positions, state.place(tokens, width), strict=True))
        self._append(vectors, numbers, width)
        line = json.dumps(block) + "\n"
        with report_full_disk(self._journal, len(line)), self._journal.open("a") as journal:
            journal.write(line)
        state.add(block)
        if state.done == 1:
            self._require_space_for_all()

    def _append(
        self, vectors: Mapping[int, np.ndarray], numbers: Mapping[int, int], width: int
    ) -> None:
        """Write images' vectors, each to the file of its number, and the headers of full files."""
        first = len(self._state.extents) - 1
        last = max(numbers.values(), default=first)
        for number in range(first, last + 1):
            part = [vectors[row] for row in sorted(vectors) if numbers[row] == number]
            size = sum(values.nbytes for values in part)
            file = self._file(number)
            file.touch()
            with report_full_disk(file, size), file.open("r+b") as handle:
                handle.truncate(self._state.end(number))
                handle.seek(0, os.SEEK_END)
                if width and handle.tell() == 0:
                    self._write_header(handle, (0, width))
                for values in part:
                    handle.write(values.data)
                if number < last:
                    rows = (handle.tell() - _HEADER) // (width * self._dtype.itemsize)
                    handle.seek(0)
                    self._write_header(handle, (rows, width))

    def _require_space_for_all(self) -> None:
        """Refuse to go on if the disk has no space for the rest, as far as the first block tells.

        Raises:
            NoSpaceError: it hasn't.
        """
        state = self._state
        written = sum(state.end(number) for number in range(len(state.extents)))
        expected = written * self._count // max(1, len(state.tokens))
        file = self._file(0)
        if self._uploaded is not None:
            most = files.UPLOADED_AT_A_TIME * files.SHARD_BYTES
            require_space(file, min(expected, most) - written)
            return
        if device_of(self._out) != device_of(file):
            require_space(self._out / file.name, expected)
        require_space(file, expected - written)

    def finish(self) -> None:
        """Write the header of the last file with the final number of tokens."""
        number = len(self._state.extents) - 1
        if number < (self._uploaded or 0):
            return
        file, shape = self._file(number), (self._state.extents[number].tokens, self._state.width)
        file.touch()
        if file.stat().st_size and np.load(file, mmap_mode="r").shape == shape:
            return  # an earlier process has; the file may be read-only by now
        with file.open("r+b") as handle:
            self._write_header(handle, shape)

    def _write_header(self, handle: BinaryIO, shape: tuple[int, int]) -> None:
        """Write NumPy's header."""
        header = {"descr": self._dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(handle, header)
        assert handle.tell() == _HEADER, "NumPy's header has another size"
