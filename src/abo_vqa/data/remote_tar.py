"""Members of a tar on object storage, by name: range reads, kept on the local disk."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

import numpy as np

from abo_vqa.core.errors import UserError
from abo_vqa.core.remote_pin import PIN_NAME, ObjectVersion, RemotePin
from abo_vqa.data.member_cache import MemberCache, remote_cache
from abo_vqa.data.members import IndexedMembers, header_fits
from abo_vqa.data.object_errors import ObjectChangedError, changed_object
from abo_vqa.data.object_store import Range, RemoteObject, list_folder
from abo_vqa.data.remote_index import REQUEST_SIZE, load_or_build_remote
from abo_vqa.data.tar_index import BLOCK_SIZE

_GAP = 16 << 10  # bytes between two members up to which one request reads both
_BATCH = 64 << 20  # bytes fetched at a time
_MEMORY = 256 << 20  # bytes of members that were fetched ahead, where the disk takes none


class RemoteTarMembers(IndexedMembers):
    """The members of a tar on object storage, with the interface of `TarMembers`. Thread-safe.

    Attributes:
        path: the tar's URL.
        remote: the object.

    Args:
        url: of the tar.
        expected: the version that is pinned; None for any.

    Raises:
        FileNotFoundError: there is no such object.
        UserError: it isn't the pinned one, isn't a whole tar, or may not be read.
        RetryLaterError: the network kept failing.
    """

    def __init__(self, url: str, expected: ObjectVersion | None = None) -> None:
        self.path = url
        self.remote = RemoteObject(url)
        if expected is not None and self.remote.state != expected:
            now = self.remote.state
            raise ObjectChangedError(
                f"{url} isn't the object that {PIN_NAME} pins: {now.size:,} bytes, version "
                f"{now.version!r}, instead of {expected.size:,}, {expected.version!r}. If the "
                "change was on purpose, `abo-vqa fetch --profile NAME` pins the new one: stages "
                "that read it become stale."
            )
        folder = remote_cache(url, self.remote.state)
        self.index = load_or_build_remote(self.remote, folder)
        self._kept = MemberCache(folder, len(self.index))
        self._ahead: dict[int, bytes] = {}
        self._ahead_size = 0
        self._lock = threading.Lock()

    def read(self, name: str) -> bytes | None:
        """Return a member's bytes, or None if there is no such member.

        Args:
            name: its name.

        Raises:
            ObjectChangedError: the object isn't what the index was built from.
            UserError: access is denied.
            RetryLaterError: the network kept failing.
        """
        place = self.index.place(name)
        if place is None:
            return None
        start, end = self._range(place)
        data = self._kept.get(place, start, end - start) or self._take_ahead(place)
        if data is None:
            data = self.remote.read([(start, end)])[0]
            self._check(place, data)
            self._kept.put(place, start, data)
        return data[BLOCK_SIZE:]

    def prefetch(self, names: Iterable[str]) -> None:
        """Fetch members that aren't kept yet, many at a time, so that `read` finds them.

        Args:
            names: of the members; unknown ones are skipped.

        Raises:
            UserError: see `read`.
            RetryLaterError: see `read`.
        """
        places = [place for place in map(self.index.place, names) if place is not None]
        missing = self._kept.missing(np.unique(np.array(places, dtype=np.int64)))
        with self._lock:
            wanted = [int(place) for place in missing if int(place) not in self._ahead]
        wanted.sort(key=lambda place: self._range(place)[0])
        batch: list[int] = []
        size = 0
        for place in wanted:
            start, end = self._range(place)
            if batch and size + end - start > _BATCH:
                self._fetch(batch)
                batch, size = [], 0
            batch.append(place)
            size += end - start
        if batch:
            self._fetch(batch)

    def _fetch(self, places: Sequence[int]) -> None:
        """Fetch some members, in the order of their offsets."""
        ranges, owners = _merge([self._range(place) for place in places])
        parts = self.remote.read(ranges)
        for place, owner in zip(places, owners, strict=True):
            start, end = self._range(place)
            first = ranges[owner][0]
            data = parts[owner][start - first : end - first]
            self._check(place, data)
            if not self._kept.put(place, start, data):
                self._put_ahead(place, data)

    def _range(self, place: int) -> Range:
        """Where a member's header begins, and its data ends: the header shows whose data it is."""
        offset, size = int(self.index.offsets[place]), int(self.index.sizes[place])
        return offset - BLOCK_SIZE, offset + size

    def _check(self, place: int, data: bytes) -> None:
        """Compare the header with the index."""
        if not header_fits(data, bytes(self.index.names[place])):
            raise changed_object(self.path)

    def _put_ahead(self, place: int, data: bytes) -> None:
        """Hold a member in memory until it is read, if there is room."""
        with self._lock:
            if self._ahead_size + len(data) <= _MEMORY and place not in self._ahead:
                self._ahead[place] = data
                self._ahead_size += len(data)

    def _take_ahead(self, place: int) -> bytes | None:
        """Return a member that was held in memory, which is then given up."""
        with self._lock:
            data = self._ahead.pop(place, None)
            self._ahead_size -= len(data or b"")
        return data

    def close(self) -> None:
        """Close the local files."""
        self._kept.close()


def _merge(ranges: Sequence[Range]) -> tuple[list[Range], list[int]]:
    """Merge sorted ranges with little between them; also return each one's place in the result."""
    merged: list[Range] = []
    owners = []
    for start, end in ranges:
        near = bool(merged) and start - merged[-1][1] <= _GAP
        if near and end - merged[-1][0] <= REQUEST_SIZE:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
        owners.append(len(merged) - 1)
    return merged, owners


def open_remote_tar(folder: str, name: str, pin: RemotePin | None) -> RemoteTarMembers:
    """Open one of the archives in a folder of a store.

    Args:
        folder: its URL.
        name: of the archive.
        pin: what `abo-vqa fetch` recorded; None for an archive that nobody pinned.

    Raises:
        UserError: it isn't there, isn't the pinned one, isn't a whole tar, or may not be read.
        RetryLaterError: the network kept failing.
    """
    expected = pin.objects.get(name) if pin else None
    try:
        return RemoteTarMembers(f"{folder.rstrip('/')}/{name}", expected)
    except FileNotFoundError:
        there = ", ".join(list_folder(folder)[:8]) or "nothing"
        raise UserError(
            f"{folder} holds no {name} (found: {there}). Copy the two archives there as they are "
            "published: only whole tars are read from object storage."
        ) from None
