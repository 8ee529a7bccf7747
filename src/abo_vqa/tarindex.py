"""A tar's members by name, read in place: one walk over the headers, kept as a small index.

Extracting 398,212 pictures takes minutes and the space twice. The walk reads only the headers (512
bytes a member, through a memory map), the index is two arrays and a sorted list of names, and a
picture is then a single `pread`. Nothing is ever extracted, so nothing can be written anywhere; a
tar that tries (absolute names, "..", links, devices) is refused as a whole.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from abo_vqa.errors import UserError
from abo_vqa.io import atomic_write

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK = 512
Member = tuple[bytes, int, int]  # name, offset of its data, size in bytes
# Walking fewer headers takes milliseconds: no file beside the archive for that.
WORTH_KEEPING = 10_000
ADVICE = "Delete it and download it again (`make abo`)."


class NotPlain(Exception):
    """A header the fast walk leaves to `tarfile`: long names, pax records, sizes over 8 GB."""


@dataclass(frozen=True)
class Index:
    """Regular members of a tar, sorted by name.

    Attributes:
        names: [n] fixed-width bytes; offsets: [n] of the data; sizes: [n], both in bytes.
    """

    names: NDArray[np.bytes_]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.names)

    def find(self, name: str) -> tuple[int, int] | None:
        """Offset and size of a member's data, or None."""
        key = name.encode()
        place = int(np.searchsorted(self.names, np.bytes_(key)))
        if place == len(self.names) or self.names[place] != key:
            return None
        return int(self.offsets[place]), int(self.sizes[place])


class TarMembers:
    """Members of one tar, by name. Reads are thread-safe (`os.pread`)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = os.open(path, os.O_RDONLY)
        try:
            self.index = load_or_build(path, self.file)
        except BaseException:
            os.close(self.file)
            raise

    def names(self) -> Iterator[str]:
        """Names of all regular members, sorted."""
        return (name.decode(errors="replace") for name in self.index.names.tolist())

    def read(self, name: str) -> bytes | None:
        """A member's bytes, or None when there is no such member.

        Raises:
            UserError: the archive isn't what the index was built from.
        """
        found = self.index.find(name)
        if found is None:
            return None
        offset, size = found
        # The member's header lies before its data: reading both shows that the index still fits.
        data = os.pread(self.file, size + BLOCK, offset - BLOCK)
        field = data[:100].split(b"\0", 1)[0].removeprefix(b"./")
        key = name.encode()
        if len(data) != size + BLOCK or not field or field[:90] not in key:
            index_path(self.path).unlink(missing_ok=True)
            raise UserError(f"{self.path} was changed while it was in use. Run this again.")
        return data[BLOCK:]

    def close(self) -> None:
        os.close(self.file)


def index_path(tar: Path) -> Path:
    """Where the index of a tar is kept: beside it."""
    return tar.with_name(tar.name + ".index.npz")


def load_or_build(path: Path, file: int) -> Index:
    """The kept index if it belongs to exactly this archive, else a new one, kept if it is big."""
    key = archive_key(file)
    kept = index_path(path)
    try:
        with np.load(kept, allow_pickle=False) as saved:
            if saved["key"].item() == key:
                return Index(saved["names"], saved["offsets"], saved["sizes"])
    except (OSError, ValueError, KeyError, EOFError):
        pass  # absent, cut short, or of another version: building it anew is always right
    index = build_index(path)
    if len(index) >= WORTH_KEEPING:
        try:
            with atomic_write(kept) as temporary:
                np.savez(
                    temporary,
                    key=np.array(key),
                    names=index.names,
                    offsets=index.offsets,
                    sizes=index.sizes,
                )
        except OSError:
            pass  # a read-only folder: the index lives as long as this process
    return index


def archive_key(file: int) -> str:
    """What ties an index to its archive: size, time of change, SHA-256 of 64 blocks spread over it.

    Hashing all 3 GB would cost more than building the index; single members that were exchanged
    between the blocks are noticed when they are read.
    """
    status = os.fstat(file)
    digest = hashlib.sha256(f"1 {status.st_size} {status.st_mtime_ns}".encode())
    last = max(0, status.st_size - 4096)
    for step in range(64):
        digest.update(os.pread(file, 4096, last * step // 63))
    return digest.hexdigest()


def build_index(path: Path) -> Index:
    """Walk the archive once; of members with the same name the last counts, as when extracting.

    Raises:
        UserError: the file isn't a whole tar, or holds something other than files and folders.
    """
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty (0 bytes). {ADVICE}")
    try:
        return as_index(fast_walk(path))
    except NotPlain:
        return as_index(slow_walk(path))


def as_index(members: Iterable[Member]) -> Index:
    table = list(members)
    names = np.array([name for name, _, _ in table], dtype=np.bytes_)
    places = np.array([place for _, *place in table], dtype=np.int64).reshape(-1, 2)
    order = np.argsort(names, kind="stable")
    names, places = names[order], places[order]
    last = np.ones(len(names), dtype=bool)
    last[:-1] = names[1:] != names[:-1]
    return Index(names[last], places[last, 0].copy(), places[last, 1].copy())


def fast_walk(path: Path) -> Iterator[Member]:
    """Members of a plain ustar or GNU archive by jumping from header to header."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if hasattr(data, "madvise"):
            data.madvise(mmap.MADV_SEQUENTIAL)
        end, position = len(data), 0
        while True:
            header = data[position : position + BLOCK]
            if len(header) < BLOCK:
                raise UserError(f"{path} is cut off after {end:,} bytes, without an end. {ADVICE}")
            if not any(header):
                return
            name, kind, size = parse(header, path, position)
            start = position + BLOCK
            if start + size > end:
                raise UserError(
                    f"{path} is cut off after {end:,} bytes, inside {name.decode()!r}. {ADVICE}"
                )
            if kind in b"0\0":
                yield checked(name, path), start, size
            elif kind not in b"5":
                refuse(name, path, "a link or a device")
            position = start + (size + BLOCK - 1) // BLOCK * BLOCK


def parse(header: bytes, path: Path, position: int) -> tuple[bytes, bytes, int]:
    """Name, kind and size of a member from its 512-byte header (POSIX.1-1988 and GNU layouts)."""
    try:
        expected = int(header[148:156].strip(b" \0"), 8)
    except ValueError:
        expected = -1
    # The checksum counts its own 8 bytes as spaces.
    if sum(header) - sum(header[148:156]) + 256 != expected:
        what = "isn't a tar archive" if position == 0 else f"is damaged at byte {position:,}"
        raise UserError(f"{path} {what}. {ADVICE}")
    kind = header[156:157]
    if kind in b"xgXLK" or header[124] & 0x80:
        raise NotPlain
    name = header[:100].split(b"\0", 1)[0]
    if header[257:263] == b"ustar\0" and header[345]:
        name = header[345:500].split(b"\0", 1)[0] + b"/" + name
    return name, kind, int(header[124:136].strip(b" \0") or b"0", 8)


def slow_walk(path: Path) -> Iterator[Member]:
    """Members of any archive that Python's `tarfile` reads; ten times slower."""
    try:
        with tarfile.open(path, "r:") as tar:
            while member := tar.next():
                vars(tar)["members"] = []  # it would keep all 398,212
                name = member.name.encode(errors="surrogateescape")
                if member.isreg():
                    yield checked(name, path), member.offset_data, member.size
                elif not member.isdir():
                    refuse(name, path, "a link or a device")
            if tar.offset > path.stat().st_size - BLOCK:
                raise UserError(f"{path} is cut off, without an end. {ADVICE}")
    except tarfile.TarError as error:
        raise UserError(f"{path} is damaged: {error}. {ADVICE}") from error


def checked(name: bytes, path: Path) -> bytes:
    """A member's name without a leading "./"; names that leave the folder are refused."""
    if name.startswith(b"./"):
        name = name[2:]
    if name.startswith(b"/") or (b".." in name and b".." in name.split(b"/")):
        refuse(name, path, "outside its own folder")
    return name


def refuse(name: bytes, path: Path, what: str) -> None:
    raise UserError(
        f"{path} holds {name.decode(errors='replace')!r}, {what}: refused. "
        f"The real archives hold only files and folders. {ADVICE}"
    )


class FolderMembers:
    """The same for an archive that was already extracted: files below a folder, by name."""

    def __init__(self, root: Path) -> None:
        self.path = root

    def names(self) -> Iterator[str]:
        """Names of all files below the folder, sorted."""
        found = (p for p in self.path.rglob("*") if p.is_file())
        return iter(sorted(p.relative_to(self.path).as_posix() for p in found))

    def read(self, name: str) -> bytes | None:
        """A file's bytes, or None when there is no such file inside the folder."""
        parts = PurePosixPath(name).parts
        if name.startswith("/") or ".." in parts:
            return None
        try:
            return self.path.joinpath(*parts).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def close(self) -> None:
        """Nothing is held open."""
