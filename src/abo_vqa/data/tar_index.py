"""An index of a tar: where each member lies, from one pass over the headers.

Own code because neither alternative will do: extracting 398,212 images takes 52 s and the space
twice, where this index is built in 8 s and opened in 0.02 s (docs/benchmarks.md), and `tarfile` is
ten times slower, keeps a Python object for each member, and isn't thread-safe.

The pass reads only the headers (512 bytes per member, through a memory map). The index is two
arrays and a sorted list of names; an image is then a single `pread`. Nothing is extracted, so
nothing can be written anywhere. A tar that tries to (absolute names, "..", links, devices) is
refused as a whole.
"""

from __future__ import annotations

import mmap
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeAlias

import numpy as np

from abo_vqa.core.errors import AboVqaError, UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK_SIZE = 512
"""Bytes of a header; data is padded to a multiple of it."""

_ADVICE = "Copy or download it again (ABO's own: `make abo`)."
_Offsets: TypeAlias = "NDArray[np.int64]"


class UnsupportedTarError(AboVqaError):
    """What `scan_headers` leaves to `tarfile`: long names, pax records, damage, and the like."""


@dataclass(frozen=True)
class TarIndex:
    """The regular members of a tar, sorted by name.

    Attributes:
        names: [n] fixed-width bytes.
        offsets: [n] where the data begins, in bytes.
        sizes: [n] bytes of data.
    """

    names: NDArray[np.bytes_]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.names)

    def find(self, name: str) -> tuple[int, int] | None:
        """Find a member.

        Args:
            name: its name.

        Returns:
            offset and size of its data, or None.
        """
        place = self.place(name)
        return None if place is None else (int(self.offsets[place]), int(self.sizes[place]))

    def place(self, name: str) -> int | None:
        """Return a member's position in the index, None if there is no such member.

        Args:
            name: its name.
        """
        key = name.encode()
        place = int(np.searchsorted(self.names, np.bytes_(key)))
        return None if place == len(self.names) or self.names[place] != key else place


def build_index(path: Path) -> TarIndex:
    """Index an archive; of members with the same name the last counts, as when extracting.

    Args:
        path: the tar.

    Raises:
        UserError: the file isn't a whole tar, or holds something other than files and folders.
    """
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty (0 bytes). {_ADVICE}")
    try:
        return scan_headers(path)
    except UnsupportedTarError:
        with path.open("rb") as file:
            return scan_with_tarfile(path, file)


def sorted_index(names: NDArray[np.bytes_], offsets: _Offsets, sizes: _Offsets) -> TarIndex:
    """Sort members by name; keep the last of equal names.

    Args:
        names: [n] of the members, in the tar's order.
        offsets: [n] where their data begins.
        sizes: [n] bytes of data.
    """
    order = np.argsort(names, kind="stable")
    names = names[order]
    last = np.ones(len(names), dtype=bool)
    last[:-1] = names[1:] != names[:-1]
    return TarIndex(names[last], offsets[order][last], sizes[order][last])


def scan_headers(path: Path) -> TarIndex:
    """Index a plain archive: jump from header to header, then check all headers at once.

    Args:
        path: the tar.

    Raises:
        UnsupportedTarError: something is unusual or wrong; `scan_with_tarfile` tells which.
        UserError: the file ends before the archive does.
    """
    with path.open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # closed with its last user
    if hasattr(data, "madvise"):
        data.madvise(mmap.MADV_SEQUENTIAL)
    headers, sizes, end = walk_headers(data)
    if end + BLOCK_SIZE > len(data):
        if not len(headers):
            raise UnsupportedTarError
        raise truncated_tar(path, len(data))
    if any(data[end : end + BLOCK_SIZE]):
        raise UnsupportedTarError
    blocks = np.frombuffer(data, dtype=np.uint8, count=len(data) // BLOCK_SIZE * BLOCK_SIZE)
    names, files = parse_headers(blocks.reshape(-1, BLOCK_SIZE), headers, path)
    return sorted_index(names[files], headers[files] + BLOCK_SIZE, sizes[files])


def truncated_tar(path: Path | str, size: int) -> UserError:
    """Return the error about a tar that ends before its last member does.

    Args:
        path: the tar.
        size: its bytes.
    """
    return UserError(f"{path} is truncated after {size:,} bytes. {_ADVICE}")


def walk_headers(data: mmap.mmap | bytes) -> tuple[_Offsets, _Offsets, int]:
    """Jump from header to header.

    Args:
        data: a tar, or a part of one that begins with a header.

    Returns:
        [m] positions of the headers that are there, [m] sizes of their members in bytes, and the
        position where the next header would be: at the archive's end, or behind the data.

    Raises:
        UnsupportedTarError: a size isn't a plain number.
    """
    headers, sizes, position, end = [], [], 0, len(data)
    while position + BLOCK_SIZE <= end and data[position]:
        try:
            # 11 octal digits; anything else (over 8 GB, other writers) is for `tarfile`.
            size = int(data[position + 124 : position + 135], 8)
        except ValueError:
            raise UnsupportedTarError from None
        headers.append(position)
        sizes.append(size)
        position += BLOCK_SIZE + (size + BLOCK_SIZE - 1) // BLOCK_SIZE * BLOCK_SIZE
    return np.array(headers, dtype=np.int64), np.array(sizes, dtype=np.int64), position


def parse_headers(
    blocks: NDArray[np.uint8], headers: _Offsets, path: Path | str
) -> tuple[NDArray[np.bytes_], NDArray[np.bool_]]:
    """Check headers and parse them.

    Args:
        blocks: [b, 512] a tar, or a part of one.
        headers: [m] positions of headers in it, in bytes.
        path: the tar, for messages.

    Returns:
        [m] names, [m] whether the member is a regular file.

    Raises:
        UnsupportedTarError: a header is unusual or damaged.
        UserError: a member would leave the folder.
    """
    # A few thousand headers at a time: copying all of them would take 200 MB.
    parts = [
        _parse_rows(blocks[headers[start : start + 8192] // BLOCK_SIZE], path)
        for start in range(0, len(headers), 8192)
    ]
    names = np.concatenate([part[0] for part in parts]) if parts else np.empty(0, dtype="S1")
    files = np.concatenate([part[1] for part in parts]) if parts else np.empty(0, dtype=bool)
    return names, files


def _parse_rows(
    rows: NDArray[np.uint8], path: Path | str
) -> tuple[NDArray[np.bytes_], NDArray[np.bool_]]:
    """Check and parse a few thousand headers at once.

    Args:
        rows: [m, 512] headers (POSIX.1-1988 and GNU layouts).
        path: the tar, for messages.

    Returns:
        [m] names, [m] whether the member is a regular file.
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


def scan_with_tarfile(path: Path | str, file: IO[bytes]) -> TarIndex:
    """Index any archive that Python's `tarfile` reads; about ten times slower.

    Args:
        path: the tar, for messages.
        file: its bytes.

    Raises:
        UserError: see `build_index`.
    """
    names, places = [], []
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            while member := tar.next():
                vars(tar)["members"] = []  # which would keep all 398,212
                name = member.name.encode(errors="surrogateescape")
                if member.isreg() and not member.issparse():
                    names.append(_safe_name(name, path))
                    places.append((member.offset_data, member.size))
                elif not member.isdir():
                    _refuse_member(name, path, "a link, a device or the like")
            end = tar.offset
    except (tarfile.TarError, EOFError) as error:
        raise UserError(f"{path} isn't a tar archive, or is damaged: {error}. {_ADVICE}") from error
    # `tarfile` takes a damaged header for the end; the true end is a block of zeros.
    file.seek(end)
    block = file.read(BLOCK_SIZE)
    if len(block) < BLOCK_SIZE:
        raise UserError(f"{path} is truncated. {_ADVICE}")
    if any(block):
        raise UserError(f"{path} is damaged at byte {end:,}. {_ADVICE}")
    table = np.array(places, dtype=np.int64).reshape(-1, 2)
    return sorted_index(np.array(names, dtype=np.bytes_), table[:, 0], table[:, 1])


def _safe_name(name: bytes, path: Path | str) -> bytes:
    """A member's name without a leading "./"; one that leaves the folder is refused."""
    if name.startswith(b"./"):
        name = name[2:]
    if name.startswith(b"/") or (b".." in name and b".." in name.split(b"/")):
        _refuse_member(name, path, "outside its own folder")
    return name


def _refuse_member(name: bytes, path: Path | str, what: str) -> None:
    """Raise UserError about a member."""
    raise UserError(
        f"{path} holds {name.decode(errors='replace')!r}, {what}: refused. "
        f"The real archives hold only files and folders. {_ADVICE}"
    )
