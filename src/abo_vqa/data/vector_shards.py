"""Vectors in several files, read like one array: by position, each file mapped when it is needed.

`shards.json` lists the files in order, and how many images and rows each holds. A row is an image's
matrix or, where images differ in their number of tokens, one token.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from abo_vqa.core.errors import UserError, first_line
from abo_vqa.core.json_files import read_json, write_json
from abo_vqa.core.vector_files import SHARDS_FILE, VECTORS_FILE

_MOST_MAPPED = 256  # a mapping holds a file open, of which a process may often have only 1,024


@dataclass(frozen=True)
class Shard:
    """One of the files.

    Attributes:
        file: its name.
        images: how many images' vectors it holds.
        rows: the length of its array.
    """

    file: str
    images: int
    rows: int


@dataclass(frozen=True)
class ShardList:
    """What `shards.json` says.

    Attributes:
        dtype: of all shards, as NumPy writes it in a file's header.
        row_shape: the shape of a row.
        shards: in order.
    """

    dtype: str
    row_shape: tuple[int, ...]
    shards: tuple[Shard, ...]

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
                Shard(str(each["file"]), int(each["images"]), int(each["rows"]))
                for each in content["shards"]
            )
            row_shape = tuple(int(size) for size in content["row_shape"])
            np.dtype(content["dtype"])
            return cls(str(content["dtype"]), row_shape, shards)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{type(error).__name__}: {first_line(error)}") from error

    def write(self, folder: Path) -> None:
        """Write the list.

        Args:
            folder: the folder.
        """
        write_json(asdict(self), folder / SHARDS_FILE)


class VectorShards:
    """An array [rows, …] in several files of a folder.

    Args:
        folder: the folder.
        listed: its files.
        advice: what to do where one is missing or damaged, for messages.

    Attributes:
        shape: of all of them as one array.
        dtype: of their numbers.
    """

    def __init__(self, folder: Path, listed: ShardList, advice: str) -> None:
        self._folder, self._advice = folder, advice
        self._listed = listed
        self._ends = np.cumsum([shard.rows for shard in listed.shards], dtype=np.int64)
        self._maps: OrderedDict[int, np.ndarray] = OrderedDict()
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

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """Read rows.

        Args:
            rows: a slice without a step, or positions in any order.

        Returns:
            Them; of a slice within one file without a copy.

        Raises:
            UserError: a file that holds some of them is missing or damaged.
        """
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(len(self))
            parts = [self._map(n)[a:b] for n, a, b in self._pieces(start, max(start, stop))]
            if len(parts) == 1:
                return parts[0]
            return np.concatenate([np.empty((0, *self.shape[1:]), self.dtype), *parts])
        values = np.empty((len(rows), *self.shape[1:]), self.dtype)
        numbers = np.searchsorted(self._ends, rows, side="right")
        for number in np.unique(numbers):
            chosen = np.flatnonzero(numbers == number)
            array, places = self._map(int(number)), rows[chosen] - self._start(number)
            if chosen[-1] - chosen[0] < len(chosen):  # neighbours: without a copy on the way
                out = values[chosen[0] : chosen[-1] + 1]
                np.take(array, places, axis=0, out=out, mode="clip")
            else:
                values[chosen] = array[places]
        return values

    def _start(self, number: int) -> int:
        """The position of a file's first row."""
        return int(self._ends[number] - self._listed.shards[number].rows)

    def _pieces(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """The files that hold the rows from `start` to `stop`, each with the rows to take."""
        number = int(np.searchsorted(self._ends, start, side="right"))
        while start < stop:
            first, end = self._start(number), min(stop, int(self._ends[number]))
            yield number, start - first, end - first
            start, number = end, number + 1

    def _map(self, number: int) -> np.ndarray:
        """Map a file, or return its mapping.

        Raises:
            UserError: it is missing or damaged.
        """
        if number not in self._maps:
            shard = self._listed.shards[number]
            file = self._folder / shard.file
            try:
                array = map_array(file, (shard.rows, *self.shape[1:]), self.dtype)
            except FileNotFoundError as error:
                raise UserError(f"{file} is missing: {self._advice}.") from error
            except (OSError, ValueError, EOFError) as error:
                raise UserError(
                    f"{file} is damaged or incomplete ({first_line(error)}): {self._advice}."
                ) from error
            while len(self._maps) >= _MOST_MAPPED:
                self._maps.popitem(last=False)
            self._maps[number] = array
        self._maps.move_to_end(number)
        return self._maps[number]

    def close(self) -> None:
        """Forget the mappings: files are closed once nothing that was read refers to them."""
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


def open_vectors(folder: Path, advice: str) -> np.ndarray | VectorShards:
    """Map the vectors of a folder, whether they are one file or several.

    Args:
        folder: it has one of both.
        advice: what to do where a shard is missing or damaged, for messages.

    Raises:
        ValueError: the only file, or the list of several, is damaged.
        EOFError: the only file is cut off.
    """
    if (folder / VECTORS_FILE).is_file():
        array: np.ndarray = np.load(folder / VECTORS_FILE, mmap_mode="r")
        return array
    return VectorShards(folder, ShardList.read(folder), advice)
