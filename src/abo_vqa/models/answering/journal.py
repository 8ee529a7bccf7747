"""The journal of answers: what an interrupted run has answered already."""

from __future__ import annotations

import json
import math
import os
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa

from abo_vqa.core.fingerprints import fingerprint, fingerprint_pieces, stage_code
from abo_vqa.core.system_errors import report_full_disk
from abo_vqa.core.text_columns import TEXT, text_frame
from abo_vqa.models.answers import Answer
from abo_vqa.models.identity import identity
from abo_vqa.models.registry import checkpoint_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from abo_vqa.core.config import Config

_LINE = msgspec.json.Decoder(list[tuple[int, str, float | None, str]])
_PIECE = 1 << 14  # rows that are Python's objects at a time
COLUMNS = ["row_id", "prediction", "confidence", "error"]


class JournalAnswers(Mapping[int, Answer]):
    """What a journal holds: row_id → answer, in some bytes for each of millions of rows.

    Args:
        row_ids: [n] of the rows; of a row that is there twice, the last answer counts.
        texts: [n] the number of each answer's text.
        confidences: [n] NaN where there is none.
        errors: [n] the number of each error.
        pool: the different texts and errors.
    """

    def __init__(
        self,
        row_ids: NDArray[np.int64],
        texts: NDArray[np.int32],
        confidences: NDArray[np.float64],
        errors: NDArray[np.int32],
        pool: Sequence[str],
    ) -> None:
        order = np.argsort(row_ids, kind="stable")
        ordered = row_ids[order]
        chosen = order[np.append(ordered[1:] != ordered[:-1], np.ones(int(len(order) > 0), bool))]
        self._row_ids, self._texts = row_ids[chosen], texts[chosen]
        self._confidences, self._errors = confidences[chosen], errors[chosen]
        self._pool = list(pool)

    def places(self, row_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return where rows' answers are, -1 for rows that have none.

        Args:
            row_ids: [m] of the rows.
        """
        if not len(self):
            return np.full(len(row_ids), -1, np.int64)
        places = np.minimum(np.searchsorted(self._row_ids, row_ids), len(self) - 1)
        return np.where(self._row_ids[places] == row_ids, places, -1)

    def table(self, places: NDArray[np.int64]) -> pd.DataFrame:
        """Return answers as a table.

        Args:
            places: [m] of the answers.

        Returns:
            Columns row_id, prediction, confidence (as text, empty if there is none) and error.
        """
        pool = pa.array(self._pool, TEXT)
        clean = pa.array(map(_one_line, self._pool), TEXT)
        pieces = [
            pa.array(["" if math.isnan(c) else f"{c:.6f}" for c in piece.tolist()], TEXT)
            for piece in _in_pieces(self._confidences[places])
        ]
        columns = {
            "prediction": pa.chunked_array([clean.take(pa.array(self._texts[places]))], TEXT),
            "confidence": pa.chunked_array(pieces, TEXT),
            "error": pa.chunked_array([pool.take(pa.array(self._errors[places]))], TEXT),
        }
        pieces.clear()
        frame = text_frame(columns)
        frame.insert(0, "row_id", self._row_ids[places])
        return frame[COLUMNS]

    def __getitem__(self, row_id: int) -> Answer:
        """Return a row's answer."""
        place = int(self.places(np.array([row_id], np.int64))[0])
        if place < 0:
            raise KeyError(row_id)
        confidence = float(self._confidences[place])
        text, error = self._pool[self._texts[place]], self._pool[self._errors[place]]
        return Answer(text, None if math.isnan(confidence) else confidence, error)

    def __iter__(self) -> Iterator[int]:
        """Yield the rows' numbers."""
        for piece in _in_pieces(self._row_ids):
            yield from piece.tolist()

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._row_ids)


def _in_pieces(values: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield an array in pieces, which become Python's objects."""
    for start in range(0, len(values), _PIECE):
        yield values[start : start + _PIECE]


class Journal:
    """Answers as they are computed: one line of JSON per batch.

    A line is written whole; if the process dies while writing it, reading ignores it.

    Args:
        folder: where the file is.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "answers-0.jsonl"

    def read(self) -> JournalAnswers:
        """Return all answers so far."""
        row_ids, texts, errors = array("q"), array("i"), array("i")
        confidences = array("d")
        pool: dict[str, int] = {}  # answers repeat
        for row_id, text, confidence, error in self._rows():
            row_ids.append(row_id)
            texts.append(pool.setdefault(text, len(pool)))
            confidences.append(math.nan if confidence is None else confidence)
            errors.append(pool.setdefault(error, len(pool)))
        return JournalAnswers(
            np.frombuffer(row_ids, np.int64),
            np.frombuffer(texts, np.int32),
            np.frombuffer(confidences, np.float64),
            np.frombuffer(errors, np.int32),
            list(pool),
        )

    def _rows(self) -> Iterator[tuple[int, str, float | None, str]]:
        """Yield the journal's rows in their order."""
        if not self._file.is_file():
            return
        with self._file.open("rb") as lines:
            for line in lines:
                try:
                    yield from _LINE.decode(line)
                except msgspec.MsgspecError:
                    continue  # the process died while writing it, or the disk is damaged

    def writer(self) -> Callable[[Sequence[int], Sequence[Answer]], None]:
        """Return a function that appends a batch's row ids and answers."""
        file = self._file
        torn = _is_torn(file)
        handle = file.open("ab", buffering=0)  # nothing is left in a buffer when the disk is full

        def append(content: bytes) -> None:
            remaining = memoryview(content)
            with report_full_disk(file, len(content)):
                while remaining:
                    remaining = remaining[handle.write(remaining) or 0 :]

        if torn:
            append(b"\n")

        def write(row_ids: Sequence[int], answers: Sequence[Answer]) -> None:
            rows = [
                [r, a.text, None if a.confidence is None else round(a.confidence, 6), a.error]
                for r, a in zip(row_ids, answers, strict=True)
            ]
            append(json.dumps(rows, ensure_ascii=False).encode() + b"\n")
            os.fsync(handle.fileno())

        return write


def collect(rows: pd.DataFrame, journal_folder: Path) -> pd.DataFrame | None:
    """Return the journal's answers as a table, or None while some are missing.

    Args:
        rows: the rows that were asked, with a column row_id.
        journal_folder: the journal's folder.

    Returns:
        Columns row_id, prediction, confidence (as text, empty if there is none) and error, in the
        order of `rows`.
    """
    done = Journal(journal_folder).read()
    places = done.places(rows["row_id"].to_numpy().astype(np.int64))
    return None if (places < 0).any() else done.table(places)


def _is_torn(file: Path) -> bool:
    """Whether a process died while it wrote the last line."""
    if not file.exists() or not file.stat().st_size:
        return False
    with file.open("rb") as lines:
        lines.seek(-1, os.SEEK_END)
        return lines.read() != b"\n"


def _one_line(text: str) -> str:
    """Replace line breaks and other control characters, which break tables."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def answers_key(stage: str, name: str, config: Config, rows: pd.DataFrame, more: Any = None) -> str:
    """Compute a fingerprint of all that the answers depend on: weights, settings, rows, code.

    Batch sizes and the device aren't part of it: they change no more than rounding, and what was
    answered before memory ran out stays valid after one of them has been changed.

    Args:
        stage: the stage whose answers they are, or whose code computes them.
        name: the model's name.
        config: the settings.
        rows: columns row_id, image_path, question.
        more: what else the answers depend on.
    """
    checkpoint = checkpoint_of(name, config)
    return fingerprint(
        [
            name,
            checkpoint.answer_settings(),
            identity(checkpoint),
            config.compute.dtype,
            config.embed.dtype,
            config.threads,
            stage_code(stage),
            rows_digest(rows),
            more,
        ]
    )


def rows_digest(rows: pd.DataFrame) -> str:
    """Hash rows some thousands at a time: as JSON they take several times their memory.

    Args:
        rows: columns row_id, image_path, question.
    """
    pieces = (rows[start : start + _PIECE] for start in range(0, len(rows), _PIECE))
    columns = ["row_id", "image_path", "question"]
    return fingerprint_pieces(piece[columns].astype(str).to_numpy().tolist() for piece in pieces)
