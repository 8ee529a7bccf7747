"""How far an interrupted export has come: a journal in its unfinished folder.

A folder is finished in one step at the end. Until then it lies hidden beside its place, and
`progress.json` in it says how much of it is whole, so that the next call goes on from there.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from abo_vqa.core.errors import UserError
from abo_vqa.core.files import replace_folder
from abo_vqa.core.json_files import read_json, write_json
from abo_vqa.reporting.export_format import ExportedSplit, ExportFile

_JOURNAL, _LOCK = "progress.json", "export.lock"
SAVE_EVERY = 500
"""Images after which a growing file's length is recorded: about a second."""


@dataclass
class Position:
    """What is whole of a split.

    Attributes:
        done: how many of its images have been gone through, unreadable ones too.
        images: how many were written.
        rows: how many were written.
        size: length of the growing file in bytes.
        memory_bytes: size of the written rows when they are loaded.
        shards: finished files with their rows.
    """

    done: int = 0
    images: int = 0
    rows: int = 0
    size: int = 0
    memory_bytes: int = 0
    shards: list[tuple[str, int]] = field(default_factory=list)


class ExportJournal:
    """The journal of an unfinished export.

    Args:
        folder: the unfinished folder.
        key: fingerprint of everything that the export depends on.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self._path, self._key = folder / _JOURNAL, key
        self._positions: dict[str, Position] = {}
        self._finished: dict[str, ExportedSplit] = {}
        if self._path.is_file():
            content = read_json(self._path)
            self._positions = {k: Position(**v) for k, v in content["positions"].items()}
            self._finished = {k: _split(v) for k, v in content["finished"].items()}

    @property
    def images(self) -> int:
        """How many images needn't be gone through again."""
        whole = sum(split.images for split in self._finished.values())
        parts = [p.done for name, p in self._positions.items() if name not in self._finished]
        return whole + sum(parts)

    def finished(self, name: str) -> ExportedSplit | None:
        """Return a split that is whole; None if it isn't."""
        return self._finished.get(name)

    def position(self, name: str) -> Position:
        """Return what is whole of a split; a copy."""
        return replace(self._positions.get(name, Position()))

    def save(self, name: str, position: Position) -> None:
        """Record what is whole of a split."""
        self._positions[name] = replace(position, shards=list(position.shards))
        self._write()

    def finish(self, split: ExportedSplit) -> None:
        """Record that a split is whole."""
        self._finished[split.name] = split
        self._write()

    def _write(self) -> None:
        positions = {name: asdict(position) for name, position in self._positions.items()}
        finished = {name: asdict(split) for name, split in self._finished.items()}
        write_json({"key": self._key, "positions": positions, "finished": finished}, self._path)


def _split(value: dict[str, Any]) -> ExportedSplit:
    shards = tuple(ExportFile(**shard) for shard in value.pop("shards"))
    return ExportedSplit(**value, shards=shards)


@contextmanager
def resumable_folder(path: Path, key: str) -> Iterator[tuple[Path, ExportJournal]]:
    """Write a folder as a whole, in place of an earlier one, in several attempts if need be.

    Args:
        path: the folder.
        key: fingerprint of everything that its content depends on: an unfinished folder of another
            one is removed.

    Yields:
        The folder beside `path` that takes its place if the block succeeds, and its journal.

    Raises:
        UserError: another process is writing there.
    """
    staged = path.with_name(f".{path.name}.partial")
    staged.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(staged / _LOCK, blocking=False):
            if not _is_of(staged, key):
                _empty(staged)
            yield staged, ExportJournal(staged, key)
    except Timeout as error:
        raise UserError(
            f"another process is exporting to {path}. Wait until it is done."
        ) from error
    except UserError:  # what is wrong with the input won't be right the next time
        shutil.rmtree(staged, ignore_errors=True)
        raise
    for name in (_JOURNAL, _LOCK):
        (staged / name).unlink(missing_ok=True)
    replace_folder(staged, path)


def _empty(staged: Path) -> None:
    """Remove everything but the lock."""
    for entry in staged.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        elif entry.name != _LOCK:
            entry.unlink()


def _is_of(staged: Path, key: str) -> bool:
    """Whether an unfinished folder belongs to an export and can be gone on with."""
    try:
        return bool(read_json(staged / _JOURNAL)["key"] == key)
    except (UserError, KeyError, TypeError):
        return False


def open_at(path: Path, size: int) -> io.TextIOWrapper:
    """Open a text file to go on writing behind its first bytes.

    Args:
        path: the file; new if `size` is 0.
        size: its length that counts; what is behind is cut off.
    """
    handle = path.open("r+b" if size else "wb")
    handle.truncate(size)
    handle.seek(size)
    return io.TextIOWrapper(handle, encoding="utf-8", newline="")


def length(out: io.TextIOWrapper) -> int:
    """Return how many bytes have been written to a file, once they are there."""
    out.flush()
    return os.fstat(out.fileno()).st_size
