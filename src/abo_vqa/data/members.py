"""Members of an archive by name: of a tar, read in place, or of the folder it was extracted to."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from zipfile import BadZipFile

import numpy as np

from abo_vqa.core.errors import UserError
from abo_vqa.core.files import atomic_write
from abo_vqa.data.tar_index import BLOCK_SIZE, TarIndex, build_index

MIN_KEPT_MEMBERS = 10_000
"""Members from which an index is worth a file beside the archive."""
_NAMES = 1 << 14  # that are Python's strings at a time


class IndexedMembers:
    """Members of a tar, wherever it is, as its index knows them.

    Attributes:
        index: of the members.
    """

    index: TarIndex

    def names(self) -> Iterator[str]:
        """Iterate over the names of all regular members, sorted."""
        for start in range(0, len(self.index), _NAMES):
            names = self.index.names[start : start + _NAMES].tolist()
            yield from (name.decode(errors="replace") for name in names)

    def size(self, name: str) -> int | None:
        """Return a member's size in bytes, or None if there is no such member.

        Args:
            name: its name.
        """
        member = self.index.find(name)
        return None if member is None else member[1]


class TarMembers(IndexedMembers):
    """The members of a tar, by name. Reads are thread-safe (`os.pread`).

    Attributes:
        path: the tar.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDONLY)
        try:
            self.index = _load_or_build(path, self._file)
        except BaseException:
            os.close(self._file)
            raise

    def read(self, name: str) -> bytes | None:
        """Return a member's bytes, or None if there is no such member.

        Args:
            name: its name.

        Raises:
            UserError: the archive isn't what the index was built from.
        """
        member = self.index.find(name)
        if member is None:
            return None
        offset, size = member
        # The header precedes the data: reading both shows whether the index still fits.
        data = os.pread(self._file, size + BLOCK_SIZE, offset - BLOCK_SIZE)
        if len(data) != size + BLOCK_SIZE or not header_fits(data, name.encode()):
            index_path(self.path).unlink(missing_ok=True)
            raise UserError(f"{self.path} was changed while it was in use. Run this again.")
        return data[BLOCK_SIZE:]

    def prefetch(self, names: Iterable[str]) -> None:
        """Do nothing: the file is near.

        Args:
            names: of the members.
        """

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def header_fits(data: bytes, name: bytes) -> bool:
    """Tell whether a member's header names it.

    Args:
        data: the header, and what follows it.
        name: the member's name in the index.
    """
    field = data[:100].split(b"\0", 1)[0].removeprefix(b"./")
    # in pax archives, "?" for other characters
    return bool(field) and (field[:90] in name or not name.isascii())


def index_path(tar: Path) -> Path:
    """Return where the index of a tar is kept: beside it.

    Args:
        tar: the archive.
    """
    return tar.with_name(tar.name + ".index.npz")


def _load_or_build(path: Path, file: int) -> TarIndex:
    """The kept index if it belongs to exactly this archive, else a new one, kept if it is large."""
    key = _archive_key(file)
    stored = index_path(path)
    try:
        with np.load(stored, allow_pickle=False) as saved:
            if saved["key"].item() == key:
                return TarIndex(saved["names"], saved["offsets"], saved["sizes"])
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        pass  # missing, cut off, or of another version: building a new one is always right
    index = build_index(path)
    if len(index) >= MIN_KEPT_MEMBERS:
        try:
            with atomic_write(stored) as temporary:
                np.savez(
                    temporary,
                    key=np.array(key),
                    names=index.names,
                    offsets=index.offsets,
                    sizes=index.sizes,
                )
        except OSError:
            pass  # a read-only folder: the index lasts as long as this process
    return index


def _archive_key(file: int) -> str:
    """Identify an archive by its size, modification time, and 64 blocks spread over it.

    Hashing all 3 GB would take longer than building the index; a change between the blocks is
    noticed when the member is read.
    """
    status = os.fstat(file)
    digest = hashlib.sha256(f"1 {status.st_size} {status.st_mtime_ns}".encode())
    last = max(0, status.st_size - 4096)
    for step in range(64):
        digest.update(os.pread(file, 4096, last * step // 63))
    return digest.hexdigest()


class FolderMembers:
    """The files below a folder, by name: the same interface for an extracted archive.

    Attributes:
        path: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.path = root

    def names(self) -> Iterator[str]:
        """Iterate over the names of all files below the folder, sorted."""
        files = (p for p in self.path.rglob("*") if p.is_file())
        return iter(sorted(p.relative_to(self.path).as_posix() for p in files))

    def size(self, name: str) -> int | None:
        """Return a file's size in bytes, or None if there is no such file in the folder.

        Args:
            name: relative to the folder.
        """
        try:
            file = self._inside(name)
            return None if file is None else file.stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def read(self, name: str) -> bytes | None:
        """Return a file's bytes, or None if there is no such file in the folder.

        Args:
            name: relative to the folder.
        """
        try:
            file = self._inside(name)
            return None if file is None else file.read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def _inside(self, name: str) -> Path | None:
        """A file's path, or None if it would be outside the folder."""
        parts = PurePosixPath(name).parts
        return None if name.startswith("/") or ".." in parts else self.path.joinpath(*parts)

    def close(self) -> None:
        """Do nothing: no file is held open."""

    def prefetch(self, names: Iterable[str]) -> None:
        """Do nothing: files are near.

        Args:
            names: of the members.
        """
