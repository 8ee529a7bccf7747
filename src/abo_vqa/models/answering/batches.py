"""Rows in batches: formed once over all of them, answered in parts where memory is short.

How batches are formed determines the rounding of an answer, so it depends on nothing but the rows
and the size; memory that runs out cuts a batch into parts and never moves a row to another one.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Sequence
from typing import Any

import pandas as pd

from abo_vqa.core.memory import out_of_memory, release_memory
from abo_vqa.models.base import Answer, VQAModel
from abo_vqa.models.sources import PictureBatch, Pictures

_PATIENCE = 16  # parts that must fit before larger ones are tried again
HOPELESS = 8  # rows in succession that don't fit alone


def batches(keys: Sequence[str], size: int) -> list[list[int]]:
    """Positions of rows in batches of at most `size`, rows with the same key together.

    Keys are taken in sorted order, so that the batches don't depend on the order of the rows'
    groups; a group larger than a batch is cut.
    """
    groups: dict[str, list[int]] = {}
    for position, key in enumerate(keys):
        groups.setdefault(key, []).append(position)
    formed: list[list[int]] = [[]]
    for key in sorted(groups):
        group = groups[key]
        if formed[-1] and len(formed[-1]) + len(group) > size:
            formed.append([])
        for start in range(0, len(group), size):
            if len(formed[-1]) >= size:
                formed.append([])
            formed[-1] += group[start : start + size]
    return [batch for batch in formed if batch]


class _Limit:
    """How many rows may be answered together: halved when memory runs out, doubled after a while.

    Memory may be short for a moment only. Where larger parts fail again they are tried less and
    less often, so that a card that is too small costs a few lost batches in all.

    Attributes:
        rows: the limit; None until memory has run out.
    """

    def __init__(self) -> None:
        self.rows: int | None = None
        self.fitted = 0
        self.patience = _PATIENCE
        self.tried = 0  # the limit that was doubled and hasn't been confirmed yet

    def allows(self, count: int) -> bool:
        return self.rows is None or count <= self.rows

    def failed(self, count: int) -> None:
        """So many rows didn't fit."""
        if self.tried:
            self.patience *= 2
        self.rows, self.fitted, self.tried = (count + 1) // 2, 0, 0
        print(f"out of memory: going on with {self.rows} rows a batch", file=sys.stderr)

    def succeeded(self, count: int) -> None:
        """So many rows did fit."""
        if self.rows is None:
            return
        if count > self.tried:
            self.tried = 0
        self.fitted += 1
        if self.fitted >= self.patience:
            self.tried, self.fitted, self.rows = self.rows, 0, 2 * self.rows


class BatchHalver:
    """Answer batches of rows, in smaller parts while memory is short.

    Attributes:
        hopeless: whether so many rows one after another didn't fit, each alone, that the rest
            needn't be tried.
    """

    def __init__(self, model: VQAModel, pictures: Pictures) -> None:
        self.model = model
        self.pictures = pictures
        self.limit = _Limit()
        self.alone = 0  # rows in succession that didn't fit, each alone

    @property
    def hopeless(self) -> bool:
        return self.alone >= HOPELESS

    def answer(self, rows: pd.DataFrame, loaded: Any = None) -> list[Answer | None]:
        """Answers to rows (image_path, question), in order; None where memory isn't enough for one.

        Args:
            loaded: what `Pictures.load` gave for the rows' pictures, if that was done already.
        """
        answers: list[Answer | None] = [None] * len(rows)
        keys = rows["image_path"].tolist()
        todo = deque([list(range(len(rows)))] if keys else [])
        part = _Part(self.model, self.pictures, loaded)
        while todo and not self.hopeless:
            which = todo.popleft()
            if not self.limit.allows(len(which)):
                cut = batches([keys[i] for i in which], self.limit.rows or 1)
                todo.extendleft([which[i] for i in piece] for piece in reversed(cut))
                continue
            said = part.answer(rows.iloc[which])
            if said is not None:
                self.alone = 0
                self.limit.succeeded(len(which))
                for i, answer in zip(which, said, strict=True):
                    answers[i] = answer
                continue
            release_memory()
            if len(which) == 1:
                self.alone += 1
            else:
                self.limit.failed(len(which))
                todo.appendleft(which)
        return answers


class _Part:
    """The parts of one batch, one after another, as far as they can share what was computed.

    Pictures that were loaded for the whole batch aren't read again, and a picture whose questions
    fill several parts isn't encoded again; but no encodings are held beside those in use.
    """

    def __init__(self, model: VQAModel, pictures: Pictures, loaded: Any) -> None:
        self.model = model
        self.pictures = pictures
        self.loaded = loaded
        self.paths: list[str] = []
        self.encoded: PictureBatch | None = None

    def answer(self, rows: pd.DataFrame) -> list[Answer] | None:
        """Answers to some of the batch's rows, or None if memory ran out.

        The caller frees it: an exception holds on to its frames, and these to the memory.
        """
        try:
            return self.once(rows, self.see(list(dict.fromkeys(rows["image_path"]))))
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            self.encoded = None
            return None

    def see(self, paths: list[str]) -> PictureBatch:
        if self.encoded is None or self.paths != paths:
            self.encoded = None
            if self.loaded is None:
                loaded = self.pictures.load(self.model, paths)
            else:
                loaded = self.pictures.part(self.loaded, paths)
            self.paths, self.encoded = paths, self.pictures.encode(self.model, loaded)
        return self.encoded

    def once(self, rows: pd.DataFrame, encoded: PictureBatch) -> list[Answer]:
        paths, questions = rows["image_path"].tolist(), rows["question"].tolist()
        # A row that can't be answered costs itself, never its batch.
        faults = self.model.question_errors(questions)
        answers = [
            Answer("", None, encoded.errors.get(path, "") or fault)
            for path, fault in zip(paths, faults, strict=True)
        ]
        good = [i for i, answer in enumerate(answers) if not answer.error]
        if good:
            which = [encoded.place[paths[i]] for i in good]
            said = self.model.predict_answers(encoded.values, which, [questions[i] for i in good])
            for i, answer in zip(good, said, strict=True):
                answers[i] = answer
        return answers
