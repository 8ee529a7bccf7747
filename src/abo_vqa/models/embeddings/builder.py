"""The file of vision outputs while it is being made: its room taken first, its blocks kept."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from abo_vqa.core.files import atomic_write
from abo_vqa.core.system_errors import NoSpaceError, nearest, storing

# numpy has no bfloat16: its bits are kept as integers.
_STORED = {"float32": np.float32, "float16": np.float16, "bfloat16": np.uint16}


class Builder:
    """Vectors on their way: a file in the scratch folder and the number of blocks it holds.

    Blocks are written in order and counted after they are on disk, so a killed process leaves
    a whole number of them, and the next one goes on behind it.

    Attributes:
        digest: of all vectors so far, one after another: reading gigabytes once more for it would
            take longer than the pictures of the sample.

    Args:
        blocks: how many there are; the file of all of them is only read.
        out: the folder that the finished file goes to; on another disk it takes room there, too.
    """

    def __init__(
        self, folder: Path, shape: tuple[int, ...], dtype: str, blocks: int, out: Path
    ) -> None:
        self.folder, self.out = folder, out
        self.file = folder / "vectors.npy"
        self.state = folder / "state.json"
        self.done, self.errors, self.digest = self.saved(shape)
        if self.done:
            mode: Literal["r", "r+"] = "r" if self.done >= blocks else "r+"
            self.vectors = np.load(self.file, mmap_mode=mode)
        else:
            self.vectors = self.fresh(shape, dtype)

    def saved(self, shape: tuple[int, ...]) -> tuple[int, dict[str, str], str]:
        """What an earlier process left: whole blocks, path → error, and the digest of the blocks;
        nothing if damaged."""
        if not (self.state.is_file() and self.file.is_file()):
            return 0, {}, ""
        try:
            found = json.loads(self.state.read_text(encoding="utf-8"))
            if np.load(self.file, mmap_mode="r").shape == shape:
                return int(found["done"]), dict(found["errors"]), str(found["digest"])
            why = "of another shape"
        except (OSError, ValueError, KeyError, TypeError) as error:
            why = str(error)
        print(f"{self.folder} is damaged ({why}): starting over.", file=sys.stderr)
        return 0, {}, ""

    def fresh(self, shape: tuple[int, ...], dtype: str) -> np.memmap:
        """An empty file of its whole size: what is mapped can't refuse to be written to.

        Raises:
            OSError: there is no room for it.
        """
        self.file.unlink(missing_ok=True)
        self.state.unlink(missing_ok=True)
        vectors = np.lib.format.open_memmap(self.file, "w+", _STORED[dtype], shape)
        size = self.file.stat().st_size
        try:
            if device_of(self.out) != device_of(self.folder):
                _require_room(self.out / self.file.name, size)
            _require_room(self.file, size)
            with storing(self.file, size), self.file.open("r+b") as file:
                if hasattr(os, "posix_fallocate"):  # sees quotas, too
                    os.posix_fallocate(file.fileno(), 0, size)
        except OSError:
            self.file.unlink()
            raise
        return vectors

    def add(self, rows: Mapping[int, np.ndarray], errors: Mapping[str, str]) -> None:
        """Write one block: the vectors by their row, and the failures."""
        for at, vector in sorted(rows.items()):
            self.vectors[at] = vector
            # Picture by picture, so that the same file has the same digest in blocks of any size.
            content = hashlib.md5(f"{self.digest} {at} ".encode())
            content.update(np.ascontiguousarray(self.vectors[at]).data)
            self.digest = content.hexdigest()
        self.vectors.flush()
        self.done += 1
        self.errors |= errors
        state = {"done": self.done, "errors": self.errors, "digest": self.digest}
        with atomic_write(self.state) as temporary:
            temporary.write_text(json.dumps(state))


def device_of(path: Path) -> int:
    """The disk that a path lies on, or will."""
    return nearest(path).stat().st_dev


def _require_room(file: Path, size: int) -> None:
    """Refuse before the work what the disk has no room for.

    Raises:
        NoSpaceError: see above.
    """
    if shutil.disk_usage(nearest(file)).free < size:
        error = NoSpaceError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))
        error.needed = size
        raise error
