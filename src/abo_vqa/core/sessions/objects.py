"""Files under the MD5 of their contents, laid out like a DVC remote."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Collection
from pathlib import Path

from abo_vqa.core.errors import AboVqaError
from abo_vqa.core.files import atomic_write

_CHUNK = 1 << 20
_READ_ONLY = 0o444  # as DVC keeps its cache


class DamagedObjectError(AboVqaError):
    """A file isn't there, or its contents aren't those that its name promises."""


class ObjectStore:
    """A folder in which equal contents are kept once, and nothing is ever changed in place.

    DVC names the files of its cache and of its remotes in the same way.

    Args:
        folder: the folder; the first `add` makes it.
    """

    def __init__(self, folder: Path) -> None:
        self._files = folder / "files" / "md5"

    def path(self, name: str) -> Path:
        """Return where contents are.

        Args:
            name: their MD5, with `.dir` behind that of DVC's list of a folder.
        """
        return self._files / name[:2] / name[2:]

    def has(self, name: str) -> bool:
        """Tell whether contents are here.

        Args:
            name: see `path`.
        """
        return self.path(name).is_file()

    def add(self, source: Path, suffix: str = "") -> str:
        """Copy a file, unless its contents are here.

        It may grow meanwhile: what is kept, and named, is what was read.

        Args:
            source: the file.
            suffix: `.dir`, or nothing.

        Returns:
            The name of its contents.
        """
        self._files.mkdir(parents=True, exist_ok=True)
        handle, text = tempfile.mkstemp(prefix=".incoming-", dir=self._files)
        os.close(handle)
        incoming = Path(text)
        try:
            name = _copy(source, incoming) + suffix
            if not self.has(name):
                self.path(name).parent.mkdir(exist_ok=True)
                incoming.replace(self.path(name))
        finally:
            incoming.unlink(missing_ok=True)
        return name

    def copy_to(self, name: str, target: Path) -> None:
        """Copy contents to a file, atomically.

        Args:
            name: see `path`.
            target: the file.

        Raises:
            DamagedObjectError: The contents are missing or damaged; the file stays as it was.
        """
        source = self.path(name)
        if not source.is_file():
            raise DamagedObjectError(f"{source} is missing")
        with atomic_write(target) as temporary:
            if _copy(source, temporary) != name.removesuffix(".dir"):
                raise DamagedObjectError(f"{source} is damaged: its contents have another MD5")

    def copy_into(self, name: str, other: ObjectStore) -> None:
        """Copy contents to another store, unless they are there.

        Args:
            name: see `path`.
            other: the other store.

        Raises:
            DamagedObjectError: See `copy_to`.
        """
        if not other.has(name):
            self.copy_to(name, other.path(name))
            other.path(name).chmod(_READ_ONLY)

    def prune(self, kept: Collection[str]) -> None:
        """Remove all contents but some, and what a kill has left unfinished.

        Args:
            kept: names; see `path`.
        """
        keep = {self.path(name) for name in kept}
        for file in [*self._files.glob("*/*"), *self._files.glob(".incoming-*")]:
            if file not in keep:
                file.unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> str:
    """Copy a file's bytes to the disk and return their MD5."""
    digest = hashlib.md5(usedforsecurity=False)
    with source.open("rb") as reader, target.open("wb") as writer:
        while part := reader.read(_CHUNK):
            digest.update(part)
            writer.write(part)
        writer.flush()
        os.fsync(writer.fileno())
    return digest.hexdigest()
