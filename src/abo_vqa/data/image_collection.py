"""Images that a user's table is about: a folder of them, or a tar that is read in place."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from abo_vqa.core.errors import UserError
from abo_vqa.data.archive import IMAGES_TAR
from abo_vqa.data.image_decoding import UnreadableImageError, decode
from abo_vqa.data.image_files import ImageError
from abo_vqa.data.image_paths import ImageIndex, format_examples
from abo_vqa.data.members import TarMembers
from abo_vqa.data.tar_index import BLOCK_SIZE

if TYPE_CHECKING:
    from PIL.Image import Image

MISSING = "No such file or directory"
_EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")
_MANGLED_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/[^/]")  # as `Path` leaves s3://bucket
_USTAR = 257  # where a tar's header says what it is
_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"PK": "zip",
    b"BZ": "bzip2",
    b"\xfd7": "xz",
    b"\x28\xb5": "zstd",
}


class ImageFolder:
    """A folder of images; no name in a table reaches files outside it.

    Args:
        root: the folder.

    Raises:
        UserError: there is no such folder.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir() and _MANGLED_URL.match(str(root)):
            raise UserError(
                f"--images {root} is a URL; only data.raw of a profile and `abo-vqa curate --raw` "
                "may be one. Copy the tar, and name the copy."
            )
        if not root.is_dir():
            raise UserError(
                f"no folder {root}; --images names the folder, or the tar, that the images are in."
            )
        self.root = root

    @cached_property
    def paths(self) -> list[str]:
        """All files below the folder, relative to it and with slashes, sorted."""
        paths = []
        for place, _, names in os.walk(self.root):
            below = Path(place).relative_to(self.root)
            paths += [(below / name).as_posix() for name in names]
        return sorted(paths)

    @cached_property
    def index(self) -> ImageIndex:
        """The files by any form of their paths."""
        return ImageIndex(self.paths)

    def find(self, text: str) -> tuple[str, str]:
        """Find the file that a name in a table stands for.

        The name itself is tried first, then the forms of a path that `ImageIndex` knows.

        Args:
            text: the name.

        Returns:
            the file relative to the folder and "", or "" and why there is none.
        """
        name = text.strip().replace("\\", "/")
        if not name:
            return "", "no image is named"
        inside, absolute = self._relative(posixpath.normpath(name))
        if ".." in PurePosixPath(inside).parts:
            return "", f"the path points outside {self.root}"
        if not absolute and self._has(inside):
            return inside, ""
        paths = self.index.candidates(inside if ".." in PurePosixPath(name).parts else text)
        # Captions and the like often lie beside an image, under its name.
        paths = [p for p in paths if p.lower().endswith(_EXTENSIONS)] or paths
        if len(paths) > 1:
            return "", f"several files could be meant: {format_examples(paths)}"
        if paths:
            return paths[0], ""
        return "", f"outside {self.root}" if absolute else MISSING

    def read(self, path: str) -> bytes:
        """Return a file's bytes.

        Args:
            path: as `find` returns it.

        Raises:
            ImageError: the file is gone, or can't be read.
        """
        try:
            return (self.root / path).read_bytes()
        except OSError as error:
            raise ImageError(path, error.strerror or "can't be opened") from error

    def image(self, path: str) -> Image:
        """Decode an image completely, as RGB; called from any thread.

        Args:
            path: as `find` returns it.

        Raises:
            ImageError: it is missing or unreadable.
        """
        try:
            return decode(self.read(path), path)
        except UnreadableImageError as error:
            raise ImageError(path, str(error)) from error

    def states(self, paths: Iterable[str]) -> list[list[int]]:
        """Return size and time of change of every image, so that a changed one is read again.

        Args:
            paths: as `find` returns them.
        """
        files = [(self.root / path).stat() for path in sorted(set(paths))]
        return [[file.st_size, file.st_mtime_ns] for file in files]

    def _has(self, inside: str) -> bool:
        """Whether there is such a file; False for a name that the system doesn't allow."""
        try:
            return (self.root / inside).is_file()
        except OSError:
            return False

    def _relative(self, name: str) -> tuple[str, bool]:
        """Make a name relative to the folder if it lies there.

        Returns:
            the name, and whether it is still absolute.
        """
        absolute = PurePosixPath(name).is_absolute()
        if not absolute and not name.startswith("../"):
            return name, False
        for root in (self.root.absolute(), self.root.resolve()):
            whole = Path(posixpath.normpath((root / name).as_posix()))
            if whole.is_relative_to(root):
                return whole.relative_to(root).as_posix(), False
        return name, absolute


class ImageTar(ImageFolder):
    """The images in a tar, which isn't unpacked.

    Args:
        tar: the archive.

    Raises:
        UserError: it is compressed, damaged, or no tar.
    """

    def __init__(self, tar: Path) -> None:
        with tar.open("rb") as file:
            start = file.read(BLOCK_SIZE)
        kind = _COMPRESSED.get(start[:2])
        # A tar starts with a member's name, which may be anything.
        if kind and start[_USTAR : _USTAR + 5] != b"ustar":
            raise UserError(
                f"--images {tar} is compressed ({kind}), so single images can't be read from it. "
                "Unpack it, and name the folder or the plain tar."
            )
        self.root = tar
        self._members = TarMembers(tar)

    @cached_property
    def paths(self) -> list[str]:
        """All files in the archive, sorted."""
        return list(self._members.names())

    def read(self, path: str) -> bytes:
        """Return a member's bytes.

        Args:
            path: as `find` returns it.

        Raises:
            ImageError: there is no such member.
        """
        data = self._members.read(path)
        if data is None:
            raise ImageError(path, MISSING)
        return data

    def states(self, paths: Iterable[str]) -> list[list[int]]:
        """Return every image's size, and the archive's time of change.

        Args:
            paths: as `find` returns them.
        """
        changed = self.root.stat().st_mtime_ns
        return [[self._members.size(path) or 0, changed] for path in sorted(set(paths))]

    def _has(self, inside: str) -> bool:
        """Whether there is such a member."""
        return self._members.size(inside) is not None

    def _relative(self, name: str) -> tuple[str, bool]:
        """Drop what leads out of the archive: nothing outside it can be read."""
        return posixpath.normpath(f"/{name}").lstrip("/"), False


def open_images(place: Path) -> ImageFolder:
    """Open what `--images` names: a folder, a tar, or a folder that holds ABO's archive of images.

    Args:
        place: the folder or file.

    Raises:
        UserError: there is neither, or the file is no plain tar.
    """
    if place.is_file():
        return ImageTar(place)
    archive = place / IMAGES_TAR
    return ImageTar(archive) if archive.is_file() else ImageFolder(place)
