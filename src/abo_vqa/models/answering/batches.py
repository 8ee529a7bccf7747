"""Rows in batches: formed once over all of them, answered in parts when memory runs out.

Which rows share a batch determines the rounding of an answer. So batches depend on nothing but the
rows and the batch size; when memory runs out a batch is split, and rows never move to another one.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from abo_vqa.core.log import get_logger
from abo_vqa.core.memory import out_of_memory, release_memory
from abo_vqa.core.text_list import TextList
from abo_vqa.models.answers import Answer
from abo_vqa.models.base import VQAModel
from abo_vqa.models.sources import ImageBatch, ImageLoader

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = get_logger(__name__)

_PATIENCE = 16  # parts that must fit before larger ones are tried again
_PIECE = 1 << 16  # sorted keys that are compared at a time
MAX_FAILURES = 8  # consecutive rows that don't fit alone before the rest is dropped


class RowBatches(Sequence[list[int]]):
    """Rows in batches, which are made as they are asked for: there may be millions.

    Args:
        order: [n] positions of rows, batch after batch.
        ends: [b] where each batch ends in it.
    """

    def __init__(self, order: NDArray[np.integer], ends: NDArray[np.int64]) -> None:
        self._order, self._ends = order, ends

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self._ends)

    @overload
    def __getitem__(self, place: int) -> list[int]: ...
    @overload
    def __getitem__(self, place: slice) -> list[list[int]]: ...
    def __getitem__(self, place: int | slice) -> list[int] | list[list[int]]:
        """Return the positions of a batch's rows."""
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        end = self._ends[place]
        start = self._ends[place - 1] if place % len(self) else 0
        batch: list[int] = self._order[start:end].tolist()
        return batch

    def without(self, left_out: NDArray[np.bool_]) -> RowBatches:
        """Return the batches without some rows, and without those that then are empty.

        Args:
            left_out: [n] by position.
        """
        kept = ~left_out[self._order]
        ends = np.unique(np.append(0, kept.cumsum())[self._ends])
        return RowBatches(self._order[kept], ends[ends > 0])


def form_batches(keys: Sequence[str] | pd.Series, size: int) -> RowBatches:
    """Group rows into batches, rows with the same key together.

    Keys are taken in sorted order, so the batches don't depend on the order of the groups; a group
    larger than a batch is split.

    Args:
        keys: each row's key, an image or a question.
        size: maximum number of rows per batch.

    Returns:
        The positions of each batch's rows.
    """
    texts = TextList.of(keys) if isinstance(keys, pd.Series) else TextList(keys)
    if not len(texts):
        return RowBatches(np.empty(0, np.int64), np.empty(0, np.int64))
    # By UTF-8's bytes, which is the order of Python's strings as well; equal keys stay in order.
    order = pc.sort_indices(texts.array).to_numpy()
    order = order.astype(np.int32 if len(order) <= np.iinfo(np.int32).max else np.int64)
    ends, filled = array("q"), 0  # the last batch's rows
    position = 0
    for count in _group_sizes(texts, order):
        if filled and filled + count > size:
            ends.append(position)
            filled = 0
        for start in range(0, count, size):
            if filled >= size:
                ends.append(position)
                filled = 0
            part = min(size, count - start)
            filled, position = filled + part, position + part
    ends.append(position)
    return RowBatches(order, np.frombuffer(ends, np.int64))


def _group_sizes(texts: TextList, order: NDArray[np.integer]) -> Iterator[int]:
    """Yield how many equal texts follow each other in an order."""
    begun = 0
    for start in range(1, len(order), _PIECE):
        piece = texts.array.take(pa.array(order[start - 1 : start + _PIECE]))
        differs = pc.not_equal(piece.slice(1), piece.slice(0, len(piece) - 1))
        for place in np.flatnonzero(differs.to_numpy(zero_copy_only=False)).tolist():
            yield start + place - begun
            begun = start + place
    yield len(order) - begun


class RowLimit:
    """How many rows are answered together: halved when memory runs out, doubled after a while.

    Memory may be short for a moment only. Each time larger parts fail again, the next attempt comes
    later, so that a GPU that is too small costs only a few lost batches in all.

    Attributes:
        rows: the limit; None until memory has run out.
    """

    def __init__(self) -> None:
        self.rows: int | None = None
        self._successes = 0
        self._patience = _PATIENCE
        self._doubled_from = 0  # the limit before it was doubled; 0 once the new one has worked

    def allows(self, count: int) -> bool:
        """Return whether this many rows may be answered together."""
        return self.rows is None or count <= self.rows

    def failed(self, count: int) -> None:
        """Halve the limit after `count` rows didn't fit."""
        if self._doubled_from:
            self._patience *= 2
        self.rows, self._successes, self._doubled_from = (count + 1) // 2, 0, 0
        logger.warning(f"out of memory: continuing with {self.rows} rows per batch")

    def succeeded(self, count: int) -> None:
        """Double the limit if enough parts have fit, `count` rows the last one."""
        if self.rows is None:
            return
        if count > self._doubled_from:
            self._doubled_from = 0
        self._successes += 1
        if self._successes >= self._patience:
            self._doubled_from, self._successes, self.rows = self.rows, 0, 2 * self.rows


class AdaptiveBatcher:
    """Answers batches of rows, in smaller parts while memory is short.

    Args:
        model: the model.
        images: where its images come from.
    """

    def __init__(self, model: VQAModel, images: ImageLoader[Any]) -> None:
        self._model = model
        self._images = images
        self._limit = RowLimit()
        self._failures = 0  # consecutive rows that didn't fit, each alone

    @property
    def gave_up(self) -> bool:
        """Whether too many consecutive rows didn't fit, so that the rest isn't tried."""
        return self._failures >= MAX_FAILURES

    def answer(self, rows: pd.DataFrame, loaded: Any = None) -> list[Answer | None]:
        """Answer the rows of a batch.

        Args:
            rows: columns image_path and question.
            loaded: the result of `ImageLoader.load` for the rows' images, if they are loaded.

        Returns:
            The answers in the rows' order; None where memory isn't sufficient for a single row.
        """
        answers: list[Answer | None] = [None] * len(rows)
        keys = rows["image_path"].tolist()
        pending = deque([list(range(len(rows)))] if keys else [])
        batch = _Batch(self._model, self._images, loaded)
        while pending and not self.gave_up:
            positions = pending.popleft()
            if not self._limit.allows(len(positions)):
                parts = form_batches([keys[i] for i in positions], self._limit.rows or 1)
                pending.extendleft([positions[i] for i in part] for part in reversed(parts))
                continue
            part_answers = batch.answer(rows.iloc[positions])
            if part_answers is not None:
                self._failures = 0
                self._limit.succeeded(len(positions))
                for i, answer in zip(positions, part_answers, strict=True):
                    answers[i] = answer
                continue
            release_memory()
            if len(positions) == 1:
                self._failures += 1
            else:
                self._limit.failed(len(positions))
                pending.appendleft(positions)
        return answers


class _Batch:
    """One batch, answered in parts that share what has been computed.

    Images that were loaded for the whole batch aren't read again, and an image whose questions fill
    several parts isn't encoded again; but only the encodings in use are kept.
    """

    def __init__(self, model: VQAModel, images: ImageLoader[Any], loaded: Any) -> None:
        self._model = model
        self._images = images
        self._loaded = loaded
        self._paths: list[str] = []
        self._encoded: ImageBatch | None = None

    def answer(self, rows: pd.DataFrame) -> list[Answer] | None:
        """Answer some of the batch's rows, or return None if memory has run out.

        The caller frees the memory: the exception's frames still refer to what didn't fit.
        """
        try:
            return self._predict(rows, self._encode(list(dict.fromkeys(rows["image_path"]))))
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            self._encoded = None
            return None

    def _encode(self, paths: list[str]) -> ImageBatch:
        if self._encoded is None or self._paths != paths:
            self._encoded = None
            if self._loaded is None:
                loaded = self._images.load(self._model, paths)
            else:
                loaded = self._images.select(self._loaded, paths)
            self._paths, self._encoded = paths, self._images.encode(self._model, loaded)
        return self._encoded

    def _predict(self, rows: pd.DataFrame, encoded: ImageBatch) -> list[Answer]:
        paths, questions = rows["image_path"].tolist(), rows["question"].tolist()
        # A row that can't be answered must not fail its batch.
        errors = self._model.question_errors(questions)
        answers = [
            Answer("", None, encoded.errors.get(path, "") or error)
            for path, error in zip(paths, errors, strict=True)
        ]
        valid = [i for i, answer in enumerate(answers) if not answer.error]
        if valid:
            image_index = [encoded.index[paths[i]] for i in valid]
            predicted = self._model.predict_answers(
                encoded.values, image_index, [questions[i] for i in valid]
            )
            for i, answer in zip(valid, predicted, strict=True):
                answers[i] = answer
        return answers
