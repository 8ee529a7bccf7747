"""Vectors in several files, read like one array: by position, each file mapped when it is needed.

`shards.json` lists the files in order, and how many images and rows each holds. A row is an image's
matrix or, where images differ in their number of tokens, one token.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from abo_vqa.core.errors import UserError, first_line
from abo_vqa.core.json_files import read_json, write_json
from abo_vqa.core.vector_files import SHARDS_FILE

Span = tuple[int, int]
"""First row, and the one behind the last."""

_MOST_MAPPED = 256  # a mapping holds a file open, of which a process may often have only 1,024


@dataclass(frozen=True)
class Shard:
    """One of the files.

    Attributes:
        file: its name.
        images: how many images' vectors it holds.
        rows: the length of its array.
        bytes: its size, where it is on object storage.
        md5: of its bytes there, by which DVC notices that it is another one.
    """

    file: str
    images: int
    rows: int
    bytes: int | None = None
    md5: str | None = None


@dataclass(frozen=True)
class ShardList:
    """What `shards.json` says.

    Attributes:
        dtype: of all shards, as NumPy writes it in a file's header.
        row_shape: the shape of a row.
        shards: in order.
        url: the folder on object storage that holds them; None for the folder of the list.
    """

    dtype: str
    row_shape: tuple[int, ...]
    shards: tuple[Shard, ...]
    url: str | None = None

    @classmethod
    def read(cls, folder: Path) -> ShardList:
        """Read the list of a folder.

        Args:
            folder: it holds the list.

        Raises:
            ValueError: it isn't one.
        """
        content = read_json(folder / SHARDS_FILE)
        try:
            shards = tuple(
                Shard(
                    str(each["file"]),
                    int(each["images"]),
                    int(each["rows"]),
                    each.get("bytes"),
                    each.get("md5"),
                )
                for each in content["shards"]
            )
            row_shape = tuple(int(size) for size in content["row_shape"])
            np.dtype(content["dtype"])
            return cls(str(content["dtype"]), row_shape, shards, content.get("url"))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{type(error).__name__}: {first_line(error)}") from error

    def write(self, folder: Path) -> None:
        """Write the list.

        Args:
            folder: the folder.
        """
        content = {key: value for key, value in asdict(self).items() if value is not None}
        content["shards"] = [
            {key: value for key, value in shard.items() if value is not None}
            for shard in content["shards"]
        ]
        write_json(content, folder / SHARDS_FILE)


class VectorShards:
    """An array [rows, …] in several files of a folder. Thread-safe.

    Args:
        folder: the folder.
        listed: its files.
        advice: what to do where one is missing or damaged, for messages.

    Attributes:
        shape: of all of them as one array.
        dtype: of their numbers.
    """

    def __init__(self, folder: Path, listed: ShardList, advice: str) -> None:
        self._folder, self._listed, self._advice = folder, listed, advice
        self._ends = np.cumsum([shard.rows for shard in listed.shards], dtype=np.int64)
        self._maps: OrderedDict[int, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()
        self.shape = (int(self._ends[-1]) if len(self._ends) else 0, *listed.row_shape)
        self.dtype = np.dtype(listed.dtype)

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def itemsize(self) -> int:
        """Bytes of a number."""
        return self.dtype.itemsize

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Read rows.

        Args:
            rows: positions in any order.

        Raises:
            UserError: a file that holds some of them is missing or damaged.
        """
        values = np.empty((len(rows), *self.shape[1:]), self.dtype)
        numbers = np.searchsorted(self._ends, rows, side="right")
        for number in np.unique(numbers):
            chosen = np.flatnonzero(numbers == number)
            places = rows[chosen] - self._start(number)
            if chosen[-1] - chosen[0] < len(chosen):  # neighbours: without a copy on the way
                self._take(int(number), places, values[chosen[0] : chosen[-1] + 1])
            else:
                part = np.empty((len(chosen), *self.shape[1:]), self.dtype)
                self._take(int(number), places, part)
                values[chosen] = part
        return values

    def spans(self, spans: Sequence[Span]) -> list[np.ndarray]:
        """Read neighbouring rows, such as the tokens of an image.

        Args:
            spans: first row, and the one behind the last; all of a span are in one file.

        Returns:
            An array for each, which must not be written to.

        Raises:
            UserError: a file that holds some of them is missing or damaged.
        """
        starts = np.array([start for start, _ in spans], dtype=np.int64)
        numbers = np.searchsorted(self._ends, starts, side="right")
        results: list[np.ndarray] = [np.empty((0, *self.shape[1:]), self.dtype)] * len(spans)
        for number in np.unique(numbers).tolist():
            here = np.flatnonzero(numbers == number).tolist()
            chosen = [i for i in here if spans[i][0] < spans[i][1]]
            if chosen:
                first = self._start(number)
                places = [(spans[i][0] - first, spans[i][1] - first) for i in chosen]
                for i, part in zip(chosen, self._spans(number, places), strict=True):
                    results[i] = part
        return results

    def _start(self, number: int) -> int:
        """The position of a file's first row."""
        return int(self._ends[number] - self._listed.shards[number].rows)

    def _take(self, number: int, places: np.ndarray, out: np.ndarray) -> None:
        """Read rows of a file."""
        np.take(self._map(number), places, axis=0, out=out, mode="clip")

    def _spans(self, number: int, spans: Sequence[Span]) -> list[np.ndarray]:
        """Read neighbouring rows of a file."""
        return [self._map(number)[start:stop] for start, stop in spans]

    def _map(self, number: int) -> np.ndarray:
        """Map a file, or return its mapping.

        Raises:
            UserError: it is missing or damaged.
        """
        with self._lock:
            if number not in self._maps:
                while len(self._maps) >= _MOST_MAPPED:
                    self._maps.popitem(last=False)
                self._maps[number] = self._open(self._listed.shards[number])
            self._maps.move_to_end(number)
            return self._maps[number]

    def _open(self, shard: Shard) -> np.ndarray:
        """Map a file."""
        file = self._folder / shard.file
        try:
            return map_array(file, (shard.rows, *self.shape[1:]), self.dtype)
        except FileNotFoundError as error:
            raise UserError(f"{file} is missing: {self._advice}.") from error
        except (OSError, ValueError, EOFError) as error:
            raise UserError(
                f"{file} is damaged or incomplete ({first_line(error)}): {self._advice}."
            ) from error

    def close(self) -> None:
        """Forget the mappings: files are closed once nothing that was read refers to them."""
        with self._lock:
            self._maps.clear()


def map_array(file: Path, shape: Sequence[int], dtype: np.dtype) -> np.memmap:
    """Map a file that must hold a certain array, and nothing else.

    Args:
        file: the file.
        shape: of the array.
        dtype: of its numbers.

    Raises:
        OSError: it can't be opened.
        ValueError: it is truncated, or holds something else.
        EOFError: it is truncated.
    """
    array = np.lib.format.open_memmap(file, mode="r")
    if array.shape != tuple(shape) or array.dtype != dtype:
        raise ValueError(
            f"{array.dtype} of shape {list(array.shape)}, not {dtype} of {list(shape)}"
        )
    size = array.offset + dtype.itemsize * math.prod(shape)
    if file.stat().st_size != size:
        raise ValueError(f"{file.stat().st_size:,} bytes, not {size:,}")
    return array
