"""The file of vision outputs while it is being written: resumable after each block."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np

from abo_vqa.core.files import atomic_write
from abo_vqa.core.log import get_logger
from abo_vqa.core.system_errors import NoSpaceError, nearest_existing, report_full_disk
from abo_vqa.models.embeddings.files import VECTORS_FILE

logger = get_logger(__name__)

# NumPy has no bfloat16: its bits are stored as integers.
STORED_DTYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": np.uint16}

_STATE_FILE = "state.json"


class EmbeddingBuilder:
    """A file of vectors in the scratch folder, and the number of blocks it holds.

    Blocks are written in order and counted once they are on disk, so a killed process leaves a
    whole number of them, and the next one continues after them.

    Args:
        folder: the scratch folder.
        shape: [N, T, V] of the vectors.
        dtype: the dtype they are stored in.
        blocks: the number of blocks; a file that has all of them is only read.
        out: the folder that the finished file goes to; if it is on another disk, the file needs
            space there as well.

    Attributes:
        dtype: see above.
        file: the file of vectors.
        done: the number of blocks it holds.
        sizes: images, tokens and width of the vectors.
        errors: path → why the image can't be read.
        digest: of all vectors so far, in a chain: hashing gigabytes again at the end would take
            longer than encoding the sample's images.
    """

    def __init__(
        self, folder: Path, shape: tuple[int, ...], dtype: str, blocks: int, out: Path
    ) -> None:
        self._folder, self._out, self.dtype = folder, out, dtype
        self.file = folder / VECTORS_FILE
        self._state = folder / _STATE_FILE
        self.done, self.errors, self.digest = self._load_state(shape)
        if self.done:
            mode: Literal["r", "r+"] = "r" if self.done >= blocks else "r+"
            self._vectors = np.load(self.file, mmap_mode=mode)
        else:
            self._vectors = self._create(shape, dtype)
        self.sizes = dict(zip(("images", "tokens", "width"), shape, strict=True))

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

    def _load_state(self, shape: tuple[int, ...]) -> tuple[int, dict[str, str], str]:
        """Return an earlier process's blocks, errors and digest; none if they are damaged."""
        if not (self._state.is_file() and self.file.is_file()):
            return 0, {}, ""
        try:
            state = json.loads(self._state.read_text(encoding="utf-8"))
            if np.load(self.file, mmap_mode="r").shape == shape:
                return int(state["done"]), dict(state["errors"]), str(state["digest"])
            reason = "of another shape"
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            reason = str(error)
        logger.warning(f"{self._folder} is damaged ({reason}): starting over.")
        return 0, {}, ""

    def _create(self, shape: tuple[int, ...], dtype: str) -> np.memmap:
        """Create the file in its full size: writing to mapped memory can't report a full disk.

        Raises:
            OSError: there is no space for it.
        """
        self.file.unlink(missing_ok=True)
        self._state.unlink(missing_ok=True)
        vectors = np.lib.format.open_memmap(self.file, "w+", STORED_DTYPES[dtype], shape)
        size = self.file.stat().st_size
        try:
            if device_of(self._out) != device_of(self._folder):
                require_space(self._out / self.file.name, size)
            require_space(self.file, size)
            with report_full_disk(self.file, size), self.file.open("r+b") as file:
                if hasattr(os, "posix_fallocate"):  # detects quotas as well
                    os.posix_fallocate(file.fileno(), 0, size)
        except OSError:
            self.file.unlink()
            raise
        return vectors

    @property
    def columns(self) -> dict[str, list[int]]:
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
        for row, vectors in sorted(rows.items()):
            self._vectors[row] = vectors
            # Image by image, so that the digest doesn't depend on the size of the blocks.
            content = hashlib.md5(f"{self.digest} {row} ".encode())
            content.update(np.ascontiguousarray(self._vectors[row]).data)
            self.digest = content.hexdigest()
        self._vectors.flush()
        self.done += 1
        self.errors |= errors
        state = {"done": self.done, "errors": self.errors, "digest": self.digest}
        with atomic_write(self._state) as temporary:
            temporary.write_text(json.dumps(state))

    def finish(self) -> None:
        """Do nothing: the header is complete from the beginning."""


def device_of(path: Path) -> int:
    """Return the number of the disk that a path is on, or will be."""
    return nearest_existing(path).stat().st_dev


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
