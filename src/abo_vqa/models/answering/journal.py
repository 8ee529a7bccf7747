"""The journal of answers: what a killed run has answered already."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from abo_vqa.core.fingerprints import fingerprint, stage_code
from abo_vqa.core.system_errors import storing
from abo_vqa.models.base import Answer
from abo_vqa.models.registry import checkpoint_of

if TYPE_CHECKING:
    from abo_vqa.config import Config

COLUMNS = ["row_id", "prediction", "confidence", "error"]


class Journal:
    """Answers as they come, a line of JSON a batch, one file a process.

    A line is written whole or, if the process dies in it, is dropped on reading.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self) -> dict[int, Answer]:
        """All answers so far, of all processes, by row_id."""
        found: dict[int, Answer] = {}
        for file in sorted(self.folder.glob("answers-*.jsonl")):
            for line in file.read_bytes().splitlines():
                try:
                    rows = {row_id: Answer(*answer) for row_id, *answer in json.loads(line)}
                except (ValueError, TypeError):
                    continue  # the line a killed process was writing, or what a damaged disk left
                found |= rows
        return found

    def writer(self, rank: int) -> Callable[[Sequence[int], Sequence[Answer]], None]:
        """A function that appends a batch's answers to this process's file."""
        file = self.folder / f"answers-{rank}.jsonl"
        torn = file.exists() and not file.read_bytes().endswith(b"\n")
        handle = file.open("ab", buffering=0)  # nothing is left to be written when the disk is full

        def put(content: bytes) -> None:
            left = memoryview(content)
            with storing(file, len(content)):
                while left:
                    left = left[handle.write(left) or 0 :]

        if torn:
            put(b"\n")

        def write(row_ids: Sequence[int], answers: Sequence[Answer]) -> None:
            rows = [
                [r, a.text, None if a.confidence is None else round(a.confidence, 6), a.error]
                for r, a in zip(row_ids, answers, strict=True)
            ]
            put(json.dumps(rows, ensure_ascii=False).encode() + b"\n")
            os.fsync(handle.fileno())

        return write


def collect(rows: pd.DataFrame, journal_folder: Path) -> pd.DataFrame | None:
    """The journal's answers in the order of `rows`, or None while some are missing.

    Returns:
        Columns row_id, prediction, confidence (a text, empty where there is none), error.
    """
    done = Journal(journal_folder).read()
    row_ids = rows["row_id"].astype(int).tolist()
    if any(row_id not in done for row_id in row_ids):
        return None
    answers = [done[row_id] for row_id in row_ids]
    return pd.DataFrame(
        {
            "row_id": row_ids,
            "prediction": [_one_line(a.text) for a in answers],
            "confidence": ["" if a.confidence is None else f"{a.confidence:.6f}" for a in answers],
            "error": [a.error for a in answers],
        },
        columns=COLUMNS,
    )


def _one_line(text: str) -> str:
    """An answer without line breaks and other control characters, which break tables."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def journal_key(name: str, config: Config, rows: pd.DataFrame, more: Any = None) -> str:
    """A fingerprint of all that determines the answers: weights, settings, rows, our own code.

    Neither batch sizes nor the device are in it, which change no more than rounding: what was
    answered before memory ran out stays valid after one of them was changed.
    """
    from abo_vqa.models.loading import identity

    checkpoint = checkpoint_of(name, config)
    return fingerprint(
        [
            name,
            checkpoint.determining(),
            identity(checkpoint),
            config.compute.dtype,
            config.embed.dtype,
            config.threads,
            dict(stage_code("baseline")),
            rows[["row_id", "image_path", "question"]].astype(str).values.tolist(),
            more,
        ]
    )
