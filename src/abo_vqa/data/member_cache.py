"""Members of a remote tar that were read, on the local disk: one sparse file, and their checksums.

fsspec's own caches keep whole blocks without a limit, or one file per object. Here a member lies in
a sparse file at the offset that it has in the tar, and what was written counts once its CRC-32 is
beside it. So a process that is killed, another one, or another machine that shares the folder can
at worst have a member fetched again.

When the limit is reached, nothing more is kept: stages go through the images in order, and a cache
that dropped the oldest would have dropped each image before its turn comes again.
"""

from __future__ import annotations

import os
import shutil
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np

from abo_vqa.core.errors import UserError
from abo_vqa.core.fingerprints import fingerprint
from abo_vqa.core.log import get_logger
from abo_vqa.core.remote_pin import ObjectVersion
from abo_vqa.core.scratch import cache

logger = get_logger(__name__)

CACHE_LIMIT_ENV = "ABO_VQA_REMOTE_CACHE_GB"
"""The variable with the limit of all images kept from object storage; 0 keeps none."""

_DEFAULT_GB = 20.0
_CRC_SIZE = 4


def remote_cache(url: str, state: ObjectVersion) -> Path:
    """Make the folder for what is kept of an object; what was kept of its former versions goes.

    Args:
        url: of the object.
        state: its size and version.
    """
    folder = cache("remote", fingerprint(url), fingerprint([state.size, state.version]))
    for other in folder.parent.iterdir():
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)
    return folder


class MemberCache:
    """A tar's members on the local disk. Thread-safe, and safe for several processes.

    Args:
        folder: as `remote_cache` makes it.
        count: of the members.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self._room = _limit() - _used(folder.parent.parent, but=folder / "members")
        self._data = self._sums = -1
        if self._room <= 0:
            return
        try:
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
            self._data = os.open(folder / "members", flags, 0o666)
            self._sums = os.open(folder / "checksums", flags, 0o666)
            if os.fstat(self._sums).st_size < count * _CRC_SIZE:
                os.ftruncate(self._sums, count * _CRC_SIZE)
        except OSError as error:
            logger.warning(f"images from object storage aren't kept: {error}")
            self._room = 0

    def missing(self, places: np.ndarray) -> np.ndarray:
        """Return those of some members that aren't kept.

        Args:
            places: [n] their positions in the index.
        """
        if self._sums < 0:
            return places
        count = os.fstat(self._sums).st_size
        sums = np.frombuffer(os.pread(self._sums, count, 0), dtype="<u4")
        return np.asarray(places[sums[places] == 0])

    def get(self, place: int, start: int, length: int) -> bytes | None:
        """Return what is kept of a member; None if it isn't, or is damaged.

        Args:
            place: its position in the index.
            start: where its header begins in the tar.
            length: of header and data, in bytes.
        """
        if self._sums < 0:
            return None
        kept = os.pread(self._sums, _CRC_SIZE, place * _CRC_SIZE)
        if kept == bytes(_CRC_SIZE):
            return None
        data = os.pread(self._data, length, start)
        return data if _checksum(data) == kept else None

    def put(self, place: int, start: int, data: bytes) -> bool:
        """Keep a member.

        Args:
            place: its position in the index.
            start: where its header begins in the tar.
            data: header and data.

        Returns:
            whether there was room.
        """
        if self._room <= 0:
            return False
        try:
            if os.fstat(self._data).st_blocks * 512 + len(data) > self._room:
                self._room = 0
                return False
            os.pwrite(self._data, data, start)
            os.pwrite(self._sums, _checksum(data), place * _CRC_SIZE)
        except OSError as error:  # the disk is full, or a quota is reached
            logger.warning(f"no more images from object storage are kept: {error}")
            self._room = 0
            return False
        return True

    def close(self) -> None:
        """Close the files."""
        for file in {self._data, self._sums} - {-1}:
            os.close(file)
        self._data = self._sums = -1
        self._room = 0


def _checksum(data: bytes) -> bytes:
    """The CRC-32, which is never 0: that says that nothing is kept."""
    return (zlib.crc32(data) or 1).to_bytes(_CRC_SIZE, "little")


def _limit() -> float:
    """Bytes that may be kept.

    Raises:
        UserError: the variable isn't a number.
    """
    text = os.environ.get(CACHE_LIMIT_ENV, "").strip()
    try:
        limit = float(text) if text else _DEFAULT_GB
    except ValueError:
        limit = -1.0
    if not 0 <= limit < float("inf"):
        raise UserError(
            f"{CACHE_LIMIT_ENV}: found {text!r}; it is the limit in GB for images kept from object "
            "storage, e.g. 50, or 0 to keep none."
        )
    return limit * 1e9


def _used(root: Path, but: Path) -> int:
    """Bytes on the disk that other objects take."""
    total = 0
    for file in root.glob("*/*/members"):
        with suppress(OSError):
            total += 0 if file == but else file.stat().st_blocks * 512
    return total
