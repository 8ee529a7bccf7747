"""The file of vision outputs of images that differ in their number of tokens."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from abo_vqa.core.log import get_logger
from abo_vqa.core.system_errors import report_full_disk
from abo_vqa.models.embeddings.builder import STORED_DTYPES, device_of, require_space
from abo_vqa.models.embeddings.files import VECTORS_FILE

logger = get_logger(__name__)

_JOURNAL_FILE = "blocks.jsonl"
_HEADER = 128  # bytes of NumPy's header, which leaves room for a longer first dimension


@dataclass
class _State:
    """What the blocks so far hold.

    Attributes:
        done: their number.
        digest: of all vectors, in a chain; see `EmbeddingBuilder`.
        width: V; 0 while no image could be read.
        tokens: T of each image, 0 where it couldn't be read.
        lines: the different lines of text, each with its number.
        texts: the number of each image's line.
        errors: path → why the image can't be read.
    """

    done: int = 0
    digest: str = ""
    width: int = 0
    tokens: list[int] = field(default_factory=list)
    lines: dict[str, int] = field(default_factory=dict)
    texts: list[int] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)

    def add(self, block: Mapping[str, Any]) -> None:
        """Add what a line of the journal says.

        Args:
            block: the line.
        """
        self.done += 1
        self.digest, self.width = str(block["digest"]), int(block["width"])
        self.tokens += block["tokens"]
        self.lines |= {line: len(self.lines) + i for i, line in enumerate(block["lines"])}
        self.texts += block["texts"]
        self.errors |= block["errors"]


class RaggedEmbeddingBuilder:
    """A file of vectors [S, V] in the scratch folder, the S tokens of all images in their order.

    Blocks are appended in order, and a line of the journal counts one once it is on disk: what a
    killed process has written after the last line is cut off.

    Args:
        folder: the scratch folder.
        count: number of images.
        dtype: the dtype they are stored in.
        out: the folder that the finished file goes to.

    Attributes:
        dtype: see above.
        file: the file of vectors.
    """

    def __init__(self, folder: Path, count: int, dtype: str, out: Path) -> None:
        self._count, self._out, self.dtype = count, out, dtype
        self._dtype = np.dtype(STORED_DTYPES[dtype])
        self.file = folder / VECTORS_FILE
        self._journal = folder / _JOURNAL_FILE
        self._state = self._load()
        if self._state.done == 0:
            self._journal.unlink(missing_ok=True)
            self.file.unlink(missing_ok=True)

    @staticmethod
    def recorded(folder: Path) -> int:
        """Return how many blocks an earlier process has written.

        Args:
            folder: the scratch folder.
        """
        journal = folder / _JOURNAL_FILE
        return journal.read_bytes().count(b"\n") if journal.is_file() else 0

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
    def sizes(self) -> dict[str, int]:
        """Images, tokens of all of them together, and width."""
        tokens = sum(self._state.tokens)
        return {"images": self._count, "tokens": tokens, "width": self._state.width}

    @property
    def columns(self) -> dict[str, list[int]]:
        """T of each image, and the number of its line of text."""
        return {"tokens": self._state.tokens, "text": self._state.texts}

    @property
    def lines(self) -> list[str]:
        """The different lines of text."""
        return list(self._state.lines)

    def _load(self) -> _State:
        """Return what an earlier process has written; nothing if it is damaged."""
        state = _State()
        if not self._journal.is_file():
            return state
        content = self._journal.read_bytes()
        lines = content[: content.rfind(b"\n") + 1].splitlines()  # the last one may be torn
        try:
            for line in lines:
                state.add(json.loads(line))
            size = self.file.stat().st_size if self.file.is_file() else 0
            if size < self._end(state):
                raise ValueError(f"{size} bytes of {self._end(state)}")
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            logger.warning(f"{self._journal.parent} is damaged ({error}): starting over.")
            return _State()
        with self._journal.open("r+b") as handle:
            handle.truncate(sum(len(line) + 1 for line in lines))
        return state

    def _end(self, state: _State) -> int:
        """The size of the file that belongs to a state."""
        if state.width == 0:
            return 0
        return _HEADER + sum(state.tokens) * state.width * self._dtype.itemsize

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
        numbers = [lines.setdefault(texts.get(row, ""), len(lines)) for row in positions]
        block = {
            "digest": digest,
            "width": width,
            "tokens": [len(vectors.get(row, ())) for row in positions],
            "lines": list(lines)[len(state.lines) :],
            "texts": numbers,
            "errors": dict(errors),
        }
        self._append([vectors[row] for row in sorted(vectors)], width, block)
        state.add(block)
        if state.done == 1:
            self._require_space_for_all()

    def _append(self, vectors: list[np.ndarray], width: int, block: Mapping[str, Any]) -> None:
        """Write vectors, and then the line that counts them."""
        size = sum(values.nbytes for values in vectors)
        self.file.touch()
        with report_full_disk(self.file, size), self.file.open("r+b") as handle:
            handle.truncate(self._end(self._state))
            handle.seek(0, os.SEEK_END)
            if width and handle.tell() == 0:
                self._write_header(handle, (0, width))
            for values in vectors:
                handle.write(values.data)
        line = json.dumps(block) + "\n"
        with report_full_disk(self._journal, len(line)), self._journal.open("a") as journal:
            journal.write(line)

    def _require_space_for_all(self) -> None:
        """Refuse to go on if the disk has no space for the rest, as far as the first block tells.

        Raises:
            NoSpaceError: it hasn't.
        """
        written = self._end(self._state)
        expected = written * self._count // max(1, len(self._state.tokens))
        if device_of(self._out) != device_of(self.file):
            require_space(self._out / self.file.name, expected)
        require_space(self.file, expected - written)

    def finish(self) -> None:
        """Write the header with the final number of tokens."""
        shape = (sum(self._state.tokens), self._state.width)
        self.file.touch()
        if self.file.stat().st_size and np.load(self.file, mmap_mode="r").shape == shape:
            return  # an earlier process has; the file may be read-only by now
        with self.file.open("r+b") as handle:
            self._write_header(handle, shape)

    def _write_header(self, handle: BinaryIO, shape: tuple[int, int]) -> None:
        """Write NumPy's header."""
        header = {"descr": self._dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(handle, header)
        assert handle.tell() == _HEADER, "NumPy's header has another size"
