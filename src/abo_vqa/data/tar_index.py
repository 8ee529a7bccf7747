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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeAlias
from zipfile import BadZipFile

import numpy as np

from abo_vqa.core.errors import AboVqaError, UserError
from abo_vqa.core.files import atomic_write

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BLOCK_SIZE = 512
# Walking fewer headers takes milliseconds: no file beside the archive for that.
MIN_KEPT_MEMBERS = 10_000
_ADVICE = "Delete it and download it again (`make abo`)."


_Places: TypeAlias = "NDArray[np.int64]"


class UnsupportedTarError(AboVqaError):
    """The fast walk leaves this to `tarfile`: long names, pax records, damage, things to refuse."""


@dataclass(frozen=True)
class TarIndex:
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
            self.index = _load_or_build(path, self.file)
        except BaseException:
            os.close(self.file)
            raise

    def names(self) -> Iterator[str]:
        """Names of all regular members, sorted."""
        return (name.decode(errors="replace") for name in self.index.names.tolist())

    def size(self, name: str) -> int | None:
        """How many bytes a member has, or None when there is no such member."""
        found = self.index.find(name)
        return None if found is None else found[1]

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
        data = os.pread(self.file, size + _BLOCK_SIZE, offset - _BLOCK_SIZE)
        field = data[:100].split(b"\0", 1)[0].removeprefix(b"./")
        key = name.encode()
        fits = bool(field) and (field[:90] in key or not key.isascii())  # pax: "?" for the others
        if len(data) != size + _BLOCK_SIZE or not fits:
            index_path(self.path).unlink(missing_ok=True)
            raise UserError(f"{self.path} was changed while it was in use. Run this again.")
        return data[_BLOCK_SIZE:]

    def close(self) -> None:
        os.close(self.file)


def index_path(tar: Path) -> Path:
    """Where the index of a tar is kept: beside it."""
    return tar.with_name(tar.name + ".index.npz")


def _load_or_build(path: Path, file: int) -> TarIndex:
    """The kept index if it belongs to exactly this archive, else a new one, kept if it is big."""
    key = _archive_key(file)
    kept = index_path(path)
    try:
        with np.load(kept, allow_pickle=False) as saved:
            if saved["key"].item() == key:
                return TarIndex(saved["names"], saved["offsets"], saved["sizes"])
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        pass  # absent, cut short, or of another version: building it anew is always right
    index = build_index(path)
    if len(index) >= MIN_KEPT_MEMBERS:
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


def _archive_key(file: int) -> str:
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


def build_index(path: Path) -> TarIndex:
    """Walk the archive once; of members with the same name the last counts, as when extracting.

    Raises:
        UserError: the file isn't a whole tar, or holds something other than files and folders.
    """
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty (0 bytes). {_ADVICE}")
    try:
        return fast_walk(path)
    except UnsupportedTarError:
        return slow_walk(path)


def _as_index(names: NDArray[np.bytes_], offsets: _Places, sizes: _Places) -> TarIndex:
    """Sort by name, keep the last of equal names."""
    order = np.argsort(names, kind="stable")
    names = names[order]
    last = np.ones(len(names), dtype=bool)
    last[:-1] = names[1:] != names[:-1]
    return TarIndex(names[last], offsets[order][last], sizes[order][last])


def fast_walk(path: Path) -> TarIndex:
    """Index of a plain archive: jump from header to header, then check all headers at once.

    Raises:
        NotPlain: something is unusual or wrong; `slow_walk` tells which.
        UserError: the file ends before the archive does.
    """
    with path.open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # goes with its last user
    if hasattr(data, "madvise"):
        data.madvise(mmap.MADV_SEQUENTIAL)
    headers, sizes = _walk_headers(data, path)
    blocks = np.frombuffer(data, dtype=np.uint8, count=len(data) // _BLOCK_SIZE * _BLOCK_SIZE)
    blocks = blocks.reshape(-1, _BLOCK_SIZE)
    # Some thousand headers at a time: copying all of them would take 200 MB.
    parts = [
        _names_of(blocks[headers[start : start + 8192] // _BLOCK_SIZE], path)
        for start in range(0, len(headers), 8192)
    ]
    names = np.concatenate([part[0] for part in parts]) if parts else np.empty(0, dtype="S1")
    files = np.concatenate([part[1] for part in parts]) if parts else np.empty(0, dtype=bool)
    return _as_index(names[files], headers[files] + _BLOCK_SIZE, sizes[files])


def _walk_headers(data: mmap.mmap, path: Path) -> tuple[_Places, _Places]:
    """[m] positions of all headers, [m] sizes of their members, in bytes."""
    headers, sizes, position, end = [], [], 0, len(data)
    while position + _BLOCK_SIZE <= end and data[position]:
        try:
            # 11 octal digits; anything else (over 8 GB, other writers) is for `tarfile`.
            size = int(data[position + 124 : position + 135], 8)
        except ValueError:
            raise UnsupportedTarError from None
        headers.append(position)
        sizes.append(size)
        position += _BLOCK_SIZE + (size + _BLOCK_SIZE - 1) // _BLOCK_SIZE * _BLOCK_SIZE
    if position + _BLOCK_SIZE > end:
        if not headers:
            raise UnsupportedTarError
        raise UserError(f"{path} is cut off after {end:,} bytes, before its end. {_ADVICE}")
    if any(data[position : position + _BLOCK_SIZE]):
        raise UnsupportedTarError
    return np.array(headers, dtype=np.int64), np.array(sizes, dtype=np.int64)


def _names_of(rows: NDArray[np.uint8], path: Path) -> tuple[NDArray[np.bytes_], NDArray[np.bool_]]:
    """Check headers and read them: [m] names, [m] whether the member is a regular file.

    Args:
        rows: [m, 512] headers (POSIX.1-1988 and GNU layouts).
    """
    # The checksum is the sum of all bytes, its own eight counted as spaces; written as six octal
    # digits and two terminators.
    total = rows.sum(axis=1, dtype=np.int64) - rows[:, 148:156].sum(axis=1, dtype=np.int64) + 256
    digits = rows[:, 148:154].astype(np.int64) - ord("0")
    fine = (digits @ (8 ** np.arange(5, -1, -1)) == total) & (digits >= 0).all(axis=1)
    kind = rows[:, 156]
    regular = (kind == ord("0")) | (kind == 0)
    # A prefix means a name of over 100 bytes; other kinds are long names, links, devices.
    fine &= (regular | (kind == ord("5"))) & (rows[:, 345] == 0)
    if not fine.all():
        raise UnsupportedTarError
    names = np.ascontiguousarray(rows[:, :100]).view("S100").ravel()
    odd = np.char.startswith(names, b"/") | np.char.startswith(names, b"./")
    odd |= np.char.find(names, b"..") >= 0
    for place in np.flatnonzero(odd):
        names[place] = _safe_name(bytes(names[place]), path)
    width = max(1, int(np.char.str_len(names).max()))
    return names.astype(f"S{width}"), regular


def slow_walk(path: Path) -> TarIndex:
    """Index of any archive that Python's `tarfile` reads, some ten times slower.

    Raises:
        UserError: see `build_index`.
    """
    names, places = [], []
    try:
        with tarfile.open(path, "r:") as tar:
            while member := tar.next():
                vars(tar)["members"] = []  # it would keep all 398,212
                name = member.name.encode(errors="surrogateescape")
                if member.isreg() and not member.issparse():
                    names.append(_safe_name(name, path))
                    places.append((member.offset_data, member.size))
                elif not member.isdir():
                    _refuse_member(name, path, "a link, a device or the like")
            end = tar.offset
    except (tarfile.TarError, EOFError) as error:
        raise UserError(f"{path} isn't a tar archive, or is damaged: {error}. {_ADVICE}") from error
    # `tarfile` takes a damaged header for the end of the archive; the true end is a block of zeros.
    with path.open("rb") as file:
        file.seek(end)
        block = file.read(_BLOCK_SIZE)
    if len(block) < _BLOCK_SIZE:
        raise UserError(f"{path} is cut off, before its end. {_ADVICE}")
    if any(block):
        raise UserError(f"{path} is damaged at byte {end:,}. {_ADVICE}")
    table = np.array(places, dtype=np.int64).reshape(-1, 2)
    return _as_index(np.array(names, dtype=np.bytes_), table[:, 0], table[:, 1])


def _safe_name(name: bytes, path: Path) -> bytes:
    """A member's name without a leading "./"; names that leave the folder are refused."""
    if name.startswith(b"./"):
        name = name[2:]
    if name.startswith(b"/") or (b".." in name and b".." in name.split(b"/")):
        _refuse_member(name, path, "outside its own folder")
    return name


def _refuse_member(name: bytes, path: Path, what: str) -> None:
    raise UserError(
        f"{path} holds {name.decode(errors='replace')!r}, {what}: refused. "
        f"The real archives hold only files and folders. {_ADVICE}"
    )


class FolderMembers:
    """The same for an archive that was already extracted: files below a folder, by name."""

    def __init__(self, root: Path) -> None:
        self.path = root

    def names(self) -> Iterator[str]:
        """Names of all files below the folder, sorted."""
        found = (p for p in self.path.rglob("*") if p.is_file())
        return iter(sorted(p.relative_to(self.path).as_posix() for p in found))

    def size(self, name: str) -> int | None:
        """How many bytes a file has, or None when there is no such file inside the folder."""
        try:
            file = self.inside(name)
            return None if file is None else file.stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def read(self, name: str) -> bytes | None:
        """A file's bytes, or None when there is no such file inside the folder."""
        try:
            file = self.inside(name)
            return None if file is None else file.read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def inside(self, name: str) -> Path | None:
        """The place of a file, or None if it would lie outside the folder."""
        parts = PurePosixPath(name).parts
        return None if name.startswith("/") or ".." in parts else self.path.joinpath(*parts)

    def close(self) -> None:
        """Nothing is held open."""
