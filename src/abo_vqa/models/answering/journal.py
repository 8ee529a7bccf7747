"""The journal of answers: what an interrupted run has answered already."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from sys import intern
from typing import TYPE_CHECKING, Any

import msgspec
import pandas as pd

from abo_vqa.core.fingerprints import fingerprint, stage_code
from abo_vqa.core.system_errors import report_full_disk
from abo_vqa.models.answers import Answer
from abo_vqa.models.identity import identity
from abo_vqa.models.registry import checkpoint_of

if TYPE_CHECKING:
    from abo_vqa.core.config import Config

_LINE = msgspec.json.Decoder(list[tuple[int, str, float | None, str]])
COLUMNS = ["row_id", "prediction", "confidence", "error"]


class Journal:
    """Answers as they are computed: one line of JSON per batch.

    A line is written whole; if the process dies while writing it, reading ignores it.

    Args:
        folder: where the files are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self) -> dict[int, Answer]:
        """Return all answers so far by row_id; earlier versions had several files of them."""
        answers: dict[int, Answer] = {}
        for file in sorted(self._folder.glob("answers-*.jsonl")):
            with file.open("rb") as lines:
                for line in lines:
                    try:
                        rows = _LINE.decode(line)
                    except msgspec.MsgspecError:
                        continue  # the process died while writing it, or the disk is damaged
                    for row_id, text, confidence, error in rows:
                        # Answers repeat, and there may be millions.
                        answers[row_id] = Answer(intern(text), confidence, intern(error))
        return answers

    def writer(self) -> Callable[[Sequence[int], Sequence[Answer]], None]:
        """Return a function that appends a batch's row ids and answers."""
        file = self._folder / "answers-0.jsonl"
        torn = file.exists() and not file.read_bytes().endswith(b"\n")
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
    row_ids = rows["row_id"].astype(int).tolist()
    if any(row_id not in done for row_id in row_ids):
        return None
    answers = [done[row_id] for row_id in row_ids]
    clean = {text: _one_line(text) for text in {answer.text for answer in answers}}
    return pd.DataFrame(
        {
            "row_id": row_ids,
            "prediction": [clean[a.text] for a in answers],
            "confidence": ["" if a.confidence is None else f"{a.confidence:.6f}" for a in answers],
            "error": [a.error for a in answers],
        },
        columns=COLUMNS,
    )


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
            rows[["row_id", "image_path", "question"]].astype(str).values.tolist(),
            more,
        ]
    )
