"""Many texts, such as the paths of all images, in Arrow's memory: some bytes beside their own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from abo_vqa.core.tables import iter_table
from abo_vqa.core.text_columns import TEXT, text_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PIECE = 1 << 14  # texts that are held as Python's strings at a time
_MERGED_FROM = 1 << 17  # texts that aren't worth a merge


class TextList(Sequence[str]):
    """Texts that become Python's strings as they are asked for; a slice is a list.

    Args:
        texts: the texts.
    """

    def __init__(self, texts: pa.Array | pa.ChunkedArray | Iterable[str]) -> None:
        if isinstance(texts, pa.ChunkedArray):
            texts = texts.combine_chunks()
        self.array: pa.Array = texts if isinstance(texts, pa.Array) else pa.array(texts, TEXT)

    @classmethod
    def of(cls, column: pd.Series) -> TextList:
        """Return a table's column, without a copy where it is in Arrow's memory already.

        Args:
            column: texts.
        """
        return cls(text_table(column.to_frame("text"))["text"])

    def __len__(self) -> int:
        """Return their number."""
        return len(self.array)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        """Return one, or a list of some."""
        if not isinstance(place, slice):
            return str(self.array[place])
        start, stop, step = place.indices(len(self))
        if step != 1:
            return [str(self.array[i]) for i in range(start, stop, step)]
        texts: list[str] = self.array.slice(start, max(0, stop - start)).to_pylist()
        return texts

    def pieces(self) -> Iterator[list[str]]:
        """Yield all of them, some thousands at a time."""
        for start in range(0, len(self), _PIECE):
            yield self[start : start + _PIECE]

    def __iter__(self) -> Iterator[str]:
        """Yield all of them."""
        for piece in self.pieces():
            yield from piece


class TextBatches(Sequence[list[str]]):
    """Texts in batches, which are made as they are asked for.

    Args:
        texts: the texts.
        size: of a batch.
        start: the first batch.
        empty_first: whether an empty one is in front.
    """

    def __init__(
        self, texts: Sequence[str], size: int, start: int = 0, *, empty_first: bool = False
    ) -> None:
        self._texts, self._size = texts, size
        self._numbers = range(start - empty_first, -(-len(texts) // size))
        self._empty = start - 1 if empty_first else None

    def __len__(self) -> int:
        """Return their number."""
        return len(self._numbers)

    @overload
    def __getitem__(self, place: int) -> list[str]: ...
    @overload
    def __getitem__(self, place: slice) -> list[list[str]]: ...
    def __getitem__(self, place: int | slice) -> list[str] | list[list[str]]:
        """Return a batch, or a list of some."""
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        number = self._numbers[place]
        if number == self._empty:
            return []
        return list(self._texts[number * self._size : (number + 1) * self._size])


class TextIndex(Mapping[str, int]):
    """Text → its position, found by a hash of 64 bits; of equal texts, the last one's.

    Args:
        texts: the texts.
    """

    def __init__(self, texts: TextList) -> None:
        self._texts = texts
        hashes = np.empty(len(texts), np.uint64)
        start = 0
        for piece in texts.pieces():
            hashes[start : start + len(piece)] = _hashes(piece)
            start += len(piece)
        order = np.argsort(hashes, kind="stable")
        small = len(texts) <= np.iinfo(np.int32).max
        self._order = order.astype(np.int32 if small else np.int64)
        self._hashes = hashes[order]

    def places(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Return the positions of some texts, -1 for those that aren't there.

        Args:
            texts: n texts.
        """
        places = np.full(len(texts), -1, np.int64)
        if not len(texts):
            return places
        hashes = _hashes(texts)
        firsts = np.searchsorted(self._hashes, hashes, side="left").tolist()
        ends = np.searchsorted(self._hashes, hashes, side="right").tolist()
        for i, (text, first, end) in enumerate(zip(texts, firsts, ends, strict=True)):
            for place in reversed(self._order[first:end].tolist()):
                if self._texts[place] == text:
                    places[i] = place
                    break
        return places

    def __getitem__(self, text: str) -> int:
        """Return a text's position."""
        place = int(self.places([text])[0])
        if place < 0:
            raise KeyError(text)
        return place

    def __iter__(self) -> Iterator[str]:
        """Yield the texts in their order."""
        return iter(self._texts)

    def __len__(self) -> int:
        """Return their number."""
        return len(self._texts)


def _hashes(texts: Sequence[str]) -> NDArray[np.uint64]:
    """Hash texts, in every process alike."""
    hashes: NDArray[np.uint64] = pd.util.hash_array(np.array(texts, dtype=object))
    return hashes


def distinct_texts(table: Path, column: str) -> TextList:
    """Read the distinct texts of a column, sorted, without holding the column.

    Args:
        table: see `read_table`.
        column: which the table must have.

    Raises:
        UserError: see `read_table`.
    """
    parts, count = [pa.array([], TEXT)], 0
    for piece in iter_table(table, [column]):
        parts.append(pc.unique(text_table(piece)[column]))
        count += len(parts[-1])
        if count > len(parts[0]) // 2 + _MERGED_FROM:  # each text is sorted a few times at most
            _merge(parts)
            count = 0
    _merge(parts)
    pa.default_memory_pool().release_unused()
    return TextList(parts[0])


def _merge(parts: list[pa.Array]) -> None:
    """Replace texts by one array of the distinct ones, sorted by UTF-8, as Python sorts strings.

    Sorting takes a third of the memory of Arrow's hash table.
    """
    joined = pa.concat_arrays(parts)
    parts.clear()
    joined = joined.take(pc.sort_indices(joined))
    differs = pc.not_equal(joined.slice(1), joined.slice(0, max(0, len(joined) - 1)))
    first = pa.array([True] * min(1, len(joined)), pa.bool_())
    parts.append(joined.filter(pa.concat_arrays([first, differs])))
