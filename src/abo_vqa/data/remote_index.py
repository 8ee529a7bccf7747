"""The index of a tar on object storage: built once, from its headers, and kept on the local disk.

Where the next header is stands in the one before it. Of large members nothing but the headers is
read, one request each. Small ones, as ABO's images of some kilobytes, would take hundreds of
thousands of requests in a row, hours in all: there the tar is streamed, many megabytes in parallel
requests, and nothing but the headers is kept. An interrupted pass continues where it was.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast
from zipfile import BadZipFile

import numpy as np
from filelock import FileLock

from abo_vqa.core.errors import UserError
from abo_vqa.core.files import atomic_write
from abo_vqa.core.progress import progress_bar
from abo_vqa.data.object_store import RemoteObject
from abo_vqa.data.tar_index import (
    BLOCK_SIZE,
    TarIndex,
    UnsupportedTarError,
    parse_headers,
    scan_with_tarfile,
    sorted_index,
    truncated_tar,
    walk_headers,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

REQUEST_SIZE = 4 << 20
"""Bytes of one request while a tar is streamed."""
_REQUESTS = 16  # at a time
_SAVED_EVERY = 1 << 30  # bytes of the tar between two saves of the unfinished index
# A request takes as long as a connection needs for about so many bytes: members that are further
# apart are skipped, closer ones read over.
_WORTH_SKIPPING = 1 << 20
_FIRST_READ = 64 << 10


def load_or_build_remote(remote: RemoteObject, folder: Path) -> TarIndex:
    """Load the kept index of a tar, or build it; other processes wait for the one that builds.

    Args:
        remote: the tar.
        folder: where to keep it.

    Raises:
        UserError: the object isn't a whole tar, or holds something other than files and folders.
        RetryLaterError: the network kept failing; the same command continues.
    """
    path = folder / "index.npz"
    if (index := _load_index(path)) is not None:
        return index
    with FileLock(folder / "index.lock"):
        if (index := _load_index(path)) is not None:
            return index
        if remote.state.size == 0:
            raise UserError(f"{remote.url} is empty (0 bytes). Upload the archive again.")
        scan = _Scan(remote, folder / "unfinished.npz")
        try:
            index = scan.run()
        except UnsupportedTarError:
            index = scan_with_tarfile(remote.url, _whole_file(remote))
        remote.check()
        with atomic_write(path) as temporary:
            np.savez(temporary, names=index.names, offsets=index.offsets, sizes=index.sizes)
        scan.unfinished.unlink(missing_ok=True)
    return index


def _load_index(path: Path) -> TarIndex | None:
    """A kept index; None if there is none, or it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as saved:
            return TarIndex(saved["names"], saved["offsets"], saved["sizes"])
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None


class _Scan:
    """One pass over the headers of a tar.

    Attributes:
        unfinished: the file of a pass that was interrupted.
    """

    def __init__(self, remote: RemoteObject, unfinished: Path) -> None:
        self.unfinished = unfinished
        self._remote = remote
        self._position = 0
        self._names: list[NDArray[np.bytes_]] = []
        self._offsets: list[NDArray[np.int64]] = []
        self._sizes: list[NDArray[np.int64]] = []

    def run(self) -> TarIndex:
        """Read all headers.

        Raises:
            UnsupportedTarError: something is unusual, or damaged.
            UserError: the tar ends too early.
        """
        self._resume()
        size, url = self._remote.state.size, self._remote.url
        length, saved = _FIRST_READ, self._position
        bar = progress_bar(
            size, initial=self._position, desc="index", unit="B", unit_scale=True, delay=2.0
        )
        with bar:
            while True:
                if self._position + BLOCK_SIZE > size:
                    raise truncated_tar(url, size)
                before = self._position
                data = _read_window(self._remote, before, min(before + length, size))
                headers, sizes, end = walk_headers(data)
                if len(headers):
                    self._keep(data, headers, sizes)
                self._position = before + end
                bar.update(min(end, size - before))
                if end + BLOCK_SIZE <= len(data):  # it stopped within the data: at the end
                    if any(data[end : end + BLOCK_SIZE]) or self._position == 0:
                        raise UnsupportedTarError
                    return self._finish()
                mean = end / len(headers)
                length = BLOCK_SIZE if mean > _WORTH_SKIPPING else REQUEST_SIZE * _REQUESTS
                if self._position - saved >= _SAVED_EVERY:
                    self._save()
                    saved = self._position

    def _keep(self, data: bytes, headers: NDArray[np.int64], sizes: NDArray[np.int64]) -> None:
        """Take the members of a window over."""
        count = len(data) // BLOCK_SIZE
        blocks = np.frombuffer(data, dtype=np.uint8, count=count * BLOCK_SIZE)
        names, files = parse_headers(blocks.reshape(-1, BLOCK_SIZE), headers, self._remote.url)
        self._names.append(names[files])
        self._offsets.append(headers[files] + self._position + BLOCK_SIZE)
        self._sizes.append(sizes[files])

    def _finish(self) -> TarIndex:
        """The index of all members."""
        if not self._names:
            raise UnsupportedTarError
        return sorted_index(*self._joined())

    def _joined(self) -> tuple[NDArray[np.bytes_], NDArray[np.int64], NDArray[np.int64]]:
        """What all windows gave."""
        joined = np.concatenate
        return joined(self._names), joined(self._offsets), joined(self._sizes)

    def _save(self) -> None:
        """Save the unfinished index."""
        names, offsets, sizes = self._joined()
        with atomic_write(self.unfinished) as temporary:
            np.savez(temporary, position=self._position, names=names, offsets=offsets, sizes=sizes)

    def _resume(self) -> None:
        """Go on where an earlier pass over this version of the tar was interrupted."""
        try:
            with np.load(self.unfinished, allow_pickle=False) as saved:
                parts = saved["names"], saved["offsets"], saved["sizes"]
                self._position = int(saved["position"])
                self._names, self._offsets, self._sizes = ([part] for part in parts)
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            self._position = 0


def _read_window(remote: RemoteObject, start: int, end: int) -> bytes:
    """A part of the tar, by parallel requests if it is large."""
    edges = [*range(start, end, REQUEST_SIZE), end]
    return b"".join(remote.read(list(pairwise(edges))))


class _RemoteFile:
    """As much of a file as `tarfile` needs, read in large pieces."""

    def __init__(self, read: Callable[[int, int], bytes], size: int) -> None:
        self._read, self._size = read, size
        self._position = self._start = 0
        self._piece = b""

    def tell(self) -> int:
        return self._position

    def seek(self, position: int, whence: int = 0) -> int:
        base = (0, self._position, self._size)[whence]
        self._position = base + position
        return self._position

    def read(self, length: int = -1) -> bytes:
        end = self._size if length < 0 else min(self._position + length, self._size)
        start, self._position = self._position, max(end, self._position)
        if end <= start:
            return b""
        if not self._start <= start < end <= self._start + len(self._piece):
            self._start = start
            self._piece = self._read(start, min(max(end, start + REQUEST_SIZE), self._size))
        return self._piece[start - self._start : end - self._start]


def _whole_file(remote: RemoteObject) -> IO[bytes]:
    """The tar as a file."""

    def read(start: int, end: int) -> bytes:
        return _read_window(remote, start, end)

    return cast("IO[bytes]", _RemoteFile(read, remote.state.size))
