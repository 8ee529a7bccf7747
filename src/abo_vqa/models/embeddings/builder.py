"""The files of vision outputs while they are being written: resumable after each block."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from abo_vqa.core.files import atomic_write
from abo_vqa.core.log import get_logger
from abo_vqa.core.system_errors import NoSpaceError, nearest_existing, report_full_disk
from abo_vqa.core.vector_files import VECTORS_FILE, shard_name, vector_files
from abo_vqa.data.vector_shards import map_array
from abo_vqa.models.embeddings import files

logger = get_logger(__name__)

# NumPy has no bfloat16: its bits are stored as integers.
STORED_DTYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": np.uint16}

_STATE_FILE = "state.json"
_ERRORS_FILE = "errors.jsonl"  # apart from the state, which is written anew after each block


@dataclass(frozen=True)
class WrittenShard:
    """A file of vectors in the scratch folder.

    Attributes:
        file: the file.
        images: how many images' vectors it holds.
        rows: the length of its array.
    """

    file: Path
    images: int
    rows: int


class EmbeddingBuilder:
    """Files of vectors in the scratch folder, and the number of blocks they hold.

    Blocks are written in order and counted once they are on disk, so a killed process leaves a
    whole number of them, and the next one continues after them.

    Args:
        folder: the scratch folder.
        shape: [N, T, V] of the vectors.
        dtype: the dtype they are stored in.
        out: the folder that the finished files go to; if it is on another disk, they need space
            there as well.
        uploaded: the number of files that went to object storage, as each does that is complete;
            None if they stay.

    Attributes:
        dtype: see above.
        shards: the files, in order, each of whole images.
        row_shape: the shape of a row of their arrays.
        done: the number of blocks they hold.
        sizes: images, tokens and width of the vectors.
        errors: path → why the image can't be read.
        digest: of all vectors so far, in a chain: hashing gigabytes again at the end would take
            longer than encoding the sample's images.
    """

    def __init__(
        self,
        folder: Path,
        shape: tuple[int, ...],
        dtype: str,
        out: Path,
        uploaded: int | None = None,
    ) -> None:
        self._folder, self._out, self.dtype, self._uploaded = folder, out, dtype, uploaded
        self._dtype = np.dtype(STORED_DTYPES[dtype])
        count, *row_shape = shape
        self.row_shape = tuple(row_shape)
        self._room = max(1, files.SHARD_BYTES // (math.prod(row_shape) * self._dtype.itemsize))
        self.shards = self._divide(count)
        self._open: dict[int, np.memmap] = {}
        self._state, self._errors_file = folder / _STATE_FILE, folder / _ERRORS_FILE
        self._images, self.done, self.errors, self.digest = self._load_state()
        if not self.done:
            self._create()
        self._errors_size = self._errors_file.stat().st_size if self._errors_file.exists() else 0
        self.sizes = dict(zip(("images", "tokens", "width"), shape, strict=True))

    def _divide(self, count: int) -> list[WrittenShard]:
        """Deal images to files: as many as there is room for to each, in order."""
        sizes = [min(self._room, count - start) for start in range(0, count, self._room)]
        names = [VECTORS_FILE] if len(sizes) <= 1 else [*map(shard_name, range(len(sizes)))]
        return [
            WrittenShard(self._folder / name, size, size)
            for name, size in zip(names, sizes or [0], strict=True)
        ]

    @staticmethod
    def recorded(folder: Path) -> int:
        """Return how many blocks an earlier process has written; 0 if that can't be read.

        Args:
            folder: the scratch folder.
        """
        try:
            return int(json.loads((folder / _STATE_FILE).read_text(encoding="utf-8"))["done"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    def _load_state(self) -> tuple[int, int, dict[str, str], str]:
        """Return an earlier process's images, blocks, errors and digest; none if damaged."""
        if not self._state.is_file():
            return 0, 0, {}, ""
        try:
            state = json.loads(self._state.read_text(encoding="utf-8"))
            images = int(state["images"])
            for number, shard in enumerate(self.shards):
                if self._uploaded is not None and number * self._room >= images:
                    shard.file.unlink(missing_ok=True)  # it wasn't counted, and may be a part
                elif number >= (self._uploaded or 0):
                    map_array(shard.file, (shard.rows, *self.row_shape), self._dtype)
            errors = self._load_errors(int(state["errors_size"]))
            return images, int(state["done"]), errors, str(state["digest"])
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            logger.warning(f"{self._folder} is damaged ({error}): starting over.")
        return 0, 0, {}, ""

    def _load_errors(self, size: int) -> dict[str, str]:
        """Return the errors that the state counts, and cut off what was written after them.

        Args:
            size: bytes of them.

        Raises:
            ValueError: the file holds less.
        """
        self._errors_file.touch()
        if self._errors_file.stat().st_size < size:
            raise ValueError(f"{self._errors_file.name} is truncated")
        with self._errors_file.open("r+b") as lines:
            lines.truncate(size)
            return dict(entry for line in lines for entry in json.loads(line).items())

    def _create(self) -> None:
        """Create the files in their full size: writing to mapped memory can't report a full disk.

        Those that will be uploaded are created when they are begun.

        Raises:
            OSError: there is no space for them.
        """
        self._state.unlink(missing_ok=True)
        self._errors_file.unlink(missing_ok=True)
        for file in vector_files(self._folder):
            file.unlink()
        if self._uploaded is not None:
            most = self.shards[: files.UPLOADED_AT_A_TIME]
            row_bytes = math.prod(self.row_shape) * self._dtype.itemsize
            require_space(self._folder, sum(shard.rows for shard in most) * row_bytes)
            return
        # One file by its name, several by their folder.
        name = self.shards[0].file.name if len(self.shards) == 1 else ""
        try:
            for shard in self.shards:
                shape = (shard.rows, *self.row_shape)
                np.lib.format.open_memmap(shard.file, "w+", self._dtype, shape)
            size = sum(shard.file.stat().st_size for shard in self.shards)
            if device_of(self._out) != device_of(self._folder):
                require_space(self._out / name, size)
            require_space(self._folder / name, size)
            for shard in self.shards:
                reserve(shard.file)
        except OSError:
            for shard in self.shards:
                shard.file.unlink(missing_ok=True)
            raise

    def _writable(self, number: int) -> np.memmap:
        """The array of a file, to be written to."""
        if number not in self._open:
            shard = self.shards[number]
            if shard.file.exists():
                array = np.lib.format.open_memmap(shard.file, mode="r+")
            else:
                shape = (shard.rows, *self.row_shape)
                array = np.lib.format.open_memmap(shard.file, "w+", self._dtype, shape)
                reserve(shard.file)
            self._open[number] = array
        return self._open[number]

    @property
    def complete(self) -> list[WrittenShard]:
        """The files whose images have all been counted."""
        return [
            shard
            for number, shard in enumerate(self.shards)
            if number * self._room + shard.images <= self._images
        ]

    @property
    def columns(self) -> dict[str, Sequence[int]]:
        """What else is known of each image: nothing."""
        return {}

    @property
    def lines(self) -> list[str]:
        """The different lines of text, of which there are none."""
        return []

    def add(
        self,
        rows: Mapping[int, np.ndarray],
        errors: Mapping[str, str],
        texts: Mapping[int, str] = MappingProxyType({}),
    ) -> None:
        """Write one block.

        Args:
            rows: position → vectors [T, V].
            errors: path → why the image can't be read.
            texts: position → line of text, which must be empty.
        """
        assert not any(texts.values()), "images of one shape need no text"
        end = self._images + len(rows) + len(errors)
        for number in {row // self._room for row in range(self._images, end)}:
            self._writable(number)  # also one whose images can't be read
        for row, vectors in sorted(rows.items()):
            number, place = divmod(row, self._room)
            stored = self._writable(number)
            stored[place] = vectors
            # Image by image, so that the digest doesn't depend on the size of blocks or files.
            content = hashlib.md5(f"{self.digest} {row} ".encode())
            content.update(np.ascontiguousarray(stored[place]).data)
            self.digest = content.hexdigest()
        for stored in self._open.values():
            stored.flush()
        # Blocks come in order: no other one concerns an earlier file than the last of this one.
        self._open = {number: self._open[number] for number in sorted(self._open)[-1:]}
        done = self.done + 1
        if errors:
            line = json.dumps(dict(errors)) + "\n"
            with (
                report_full_disk(self._errors_file, len(line)),
                self._errors_file.open("a") as file,
            ):
                file.write(line)
            self.errors |= errors
            self._errors_size += len(line)
        state = {
            "images": end, "done": done, "errors_size": self._errors_size, "digest": self.digest
        }  # fmt: skip
        with atomic_write(self._state) as temporary:
            temporary.write_text(json.dumps(state))
        self._images, self.done = end, done

    def finish(self) -> None:
        """Let go of the files, whose headers are complete from the beginning."""
        self._open.clear()


def device_of(path: Path) -> int:
    """Return the number of the disk that a path is on, or will be."""
    return nearest_existing(path).stat().st_dev


def reserve(file: Path) -> None:
    """Take the disk space of a file that has its full size, and holes.

    Args:
        file: the file.

    Raises:
        NoSpaceError: a quota doesn't allow it, or the disk is full.
    """
    size = file.stat().st_size
    with report_full_disk(file, size), file.open("r+b") as handle:
        if hasattr(os, "posix_fallocate"):  # detects quotas as well
            os.posix_fallocate(handle.fileno(), 0, size)


def require_space(file: Path, size: int) -> None:
    """Refuse to begin if the disk has no space for a file.

    Args:
        file: the file.
        size: its bytes.

    Raises:
        NoSpaceError: it hasn't.
    """
    if shutil.disk_usage(nearest_existing(file)).free < size:
        error = NoSpaceError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))
        error.needed = size
        raise error
