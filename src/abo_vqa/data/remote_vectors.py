"""Vectors on object storage: the bytes of the images that are asked for, kept on the local disk.

Ranges are read and no whole shards: an image of BLIP is 0.9 MB, which is enough to fill a
connection, so what travels is what is needed, and a worker needs no disk for the rest. What was
read is kept as archives' images are, up to the same limit, so epochs after the first find it.
"""

from __future__ import annotations

import io
import math
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from abo_vqa.core.errors import UserError, first_line
from abo_vqa.core.vector_files import VECTORS_FILE
from abo_vqa.data.member_cache import MemberCache, remote_cache
from abo_vqa.data.object_store import Range, RemoteObject
from abo_vqa.data.vector_shards import Shard, ShardList, Span, VectorShards

_HEADER = 128  # bytes of a file in front of its numbers
_REQUEST = 64 << 20  # bytes of neighbouring images that one request reads
_BATCH = 256 << 20  # bytes that are on their way at a time
_MOST_OPEN = 128  # each holds two local files


class RemoteVectors(VectorShards):
    """An array [rows, …] in several objects. Thread-safe.

    Args:
        listed: the objects.
        advice: what to do where one is missing or damaged, for messages.
    """

    def __init__(self, listed: ShardList, advice: str) -> None:
        super().__init__(Path(), listed, advice)
        self._url = str(listed.url)
        self._row_bytes = self.itemsize * math.prod(self.shape[1:])
        self._opened: OrderedDict[int, tuple[RemoteObject, MemberCache]] = OrderedDict()

    def _take(self, number: int, places: np.ndarray, out: np.ndarray) -> None:
        """Read rows of an object."""
        spans = [(int(place), int(place) + 1) for place in places]
        for i, values in enumerate(self._spans(number, spans)):
            out[i] = values[0]

    def _spans(self, number: int, spans: Sequence[Span]) -> list[np.ndarray]:
        """Read neighbouring rows of an object: what isn't kept, many at a time."""
        with self._lock:
            return self._read(number, spans)

    def _read(self, number: int, spans: Sequence[Span]) -> list[np.ndarray]:
        """The same, by one thread at a time."""
        remote, kept = self._object(number)
        parts: dict[Span, bytes] = {}
        missing: list[Span] = []
        for span in sorted(set(spans)):
            start, stop = self._range(span)
            data = kept.get(span[0], start, stop - start)
            if data is None:
                missing.append(span)
            else:
                parts[span] = data
        for batch in _batches(missing, self._row_bytes):
            ranges, owners = _merge([self._range(span) for span in batch])
            pieces = remote.read(ranges)
            for span, owner in zip(batch, owners, strict=True):
                start, stop = self._range(span)
                first = ranges[owner][0]
                parts[span] = pieces[owner][start - first : stop - first]
                kept.put(span[0], start, parts[span])
        return [
            np.frombuffer(parts[span], self.dtype).reshape(-1, *self.shape[1:]) for span in spans
        ]

    def _range(self, span: Span) -> Range:
        """Where rows are in an object."""
        return _HEADER + span[0] * self._row_bytes, _HEADER + span[1] * self._row_bytes

    def _object(self, number: int) -> tuple[RemoteObject, MemberCache]:
        """Open an object, or return it."""
        if number not in self._opened:
            shard = self._listed.shards[number]
            url = f"{self._url}/{shard.file}"
            try:
                remote = RemoteObject(url)
                self._check(shard, remote)
            except FileNotFoundError as error:
                raise UserError(f"{url} is missing: {self._advice}.") from error
            except ValueError as error:
                raise UserError(
                    f"{url} is damaged or incomplete ({first_line(error)}): {self._advice}."
                ) from error
            while len(self._opened) >= _MOST_OPEN:
                self._opened.popitem(last=False)[1][1].close()
            cache = MemberCache(remote_cache(url, remote.state), shard.rows)
            self._opened[number] = remote, cache
        self._opened.move_to_end(number)
        return self._opened[number]

    def _check(self, shard: Shard, remote: RemoteObject) -> None:
        """Refuse an object that doesn't hold the array that is on record.

        Raises:
            ValueError: it doesn't.
        """
        size, expected = remote.state.size, _HEADER + shard.rows * self._row_bytes
        if size != expected:
            raise ValueError(f"{size:,} bytes, not {expected:,}")
        (header,) = remote.read([(0, _HEADER)])
        file = io.BytesIO(header)
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        if (shape, dtype, file.tell()) != ((shard.rows, *self.shape[1:]), self.dtype, _HEADER):
            raise ValueError(f"{dtype} of shape {list(shape)}")

    def close(self) -> None:
        """Close the local files."""
        with self._lock:
            while self._opened:
                self._opened.popitem()[1][1].close()


def _batches(spans: Sequence[Span], row_bytes: int) -> list[list[Span]]:
    """Divide rows into parts that memory has room for twice."""
    batches: list[list[Span]] = []
    room = 0
    for span in spans:
        size = (span[1] - span[0]) * row_bytes
        if not batches or size > room:
            batches.append([])
            room = _BATCH
        batches[-1].append(span)
        room -= size
    return batches


def _merge(ranges: Sequence[Range]) -> tuple[list[Range], list[int]]:
    """Merge sorted ranges that follow one another; also return each one's place in the result."""
    merged: list[Range] = []
    owners = []
    for start, end in ranges:
        if merged and start == merged[-1][1] and end - merged[-1][0] <= _REQUEST:
            merged[-1] = merged[-1][0], end
        else:
            merged.append((start, end))
        owners.append(len(merged) - 1)
    return merged, owners


def open_vectors(folder: Path, advice: str) -> np.ndarray | VectorShards:
    """Open the vectors of a folder: one file, several, or those on object storage that it lists.

    Args:
        folder: it has vectors, or the list of them.
        advice: what to do where a shard is missing or damaged, for messages.

    Raises:
        ValueError: the only file, or the list of several, is damaged.
        EOFError: the only file is cut off.
    """
    if (folder / VECTORS_FILE).is_file():
        array: np.ndarray = np.load(folder / VECTORS_FILE, mmap_mode="r")
        return array
    listed = ShardList.read(folder)
    if listed.url is None:
        return VectorShards(folder, listed, advice)
    return RemoteVectors(listed, advice)
