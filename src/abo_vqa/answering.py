"""Rows of questions → answers, at any scale: batched, journaled, resumable, tolerant.

Batches are formed over all rows before anything else, so neither the number of processes nor an
interruption can change which rows share a batch, hence not a bit of an answer.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from abo_vqa.batching import HOPELESS
from abo_vqa.batching import Halving as Halving
from abo_vqa.batching import batches as batches
from abo_vqa.errors import UserError
from abo_vqa.models.base import Answer, VQAModel
from abo_vqa.picture_sources import Files as Files
from abo_vqa.picture_sources import Once as Once
from abo_vqa.picture_sources import Pictures as Pictures
from abo_vqa.picture_sources import Stored as Stored
from abo_vqa.picture_sources import ahead as ahead
from abo_vqa.refusals import storing

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


def answer_rows(
    model: VQAModel,
    rows: pd.DataFrame,
    pictures: Pictures,
    journal_folder: Path,
    size: int,
    rank: int = 0,
    world: int = 1,
    weights: str = "<name>",
) -> None:
    """Answer this process's share of the rows, except those already in the journal.

    Args:
        rows: columns row_id, image_path, question.
        size: rows a batch at most.
        rank, world: this process takes every `world`-th batch, beginning with the `rank`-th.
        weights: the model's key under `models`, for what a message advises.
    Raises:
        UserError: memory wasn't enough for some rows, each alone. The others are in the journal,
            unless one such row came after another.
    """
    journal = Journal(journal_folder)
    done = journal.read()
    keys = rows["image_path" if model.groups_by == "picture" else "question"]
    row_ids = rows["row_id"].astype(int).tolist()
    # A batch is whole or not in the journal at all, but for rows that memory wasn't enough for.
    shares = batches(keys.tolist(), size)[rank::world]
    left = [[i for i in batch if row_ids[i] not in done] for batch in shares]
    mine = [batch for batch in left if batch]
    write = journal.writer(rank)
    halving = Halving(model, pictures)
    failed = 0
    with progress_bar(len(rows), len(rows) - sum(map(len, mine)) * world, rank) as bar:
        for batch, loaded in ahead(mine, lambda b: pictures.load(model, paths_of(rows, b))):
            answers = halving.answer(rows.iloc[batch], loaded)
            answered = {
                row_ids[i]: answer
                for i, answer in zip(batch, answers, strict=True)
                if answer is not None
            }
            if answered:
                write(list(answered), list(answered.values()))
            failed += len(batch) - len(answered)
            if halving.hopeless:
                break
            bar.update(min(len(batch) * world, bar.total - bar.n))  # the others' may be smaller
    if failed:
        what = unanswered(failed, halving.hopeless)
        raise UserError(f"out of memory: {what}. {model.remedy(weights)}")


def unanswered(failed: int, hopeless: bool) -> str:
    """What memory wasn't enough for, and what has become of the rest."""
    if hopeless:
        return f"{HOPELESS} rows, one after another and each alone, and so the rest wasn't tried"
    return (
        f"{failed:,} row(s), each alone; the others' answers are kept, and the same command asks "
        "for the missing ones only"
    )


def paths_of(rows: pd.DataFrame, batch: Sequence[int]) -> list[str]:
    return list(dict.fromkeys(rows["image_path"].iloc[list(batch)]))


def progress_bar(total: int, done: int, rank: int) -> Any:
    """Rows a second and time left, on the first process; in a log a line every 10 s."""
    from tqdm import tqdm

    interval = 0.2 if sys.stderr.isatty() else 10.0
    done = max(0, min(done, total))
    return tqdm(
        total=total,
        initial=done,
        unit="row",
        desc="answering",
        mininterval=interval,
        disable=rank != 0,
    )


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
            "prediction": [one_line(a.text) for a in answers],
            "confidence": ["" if a.confidence is None else f"{a.confidence:.6f}" for a in answers],
            "error": [a.error for a in answers],
        },
        columns=COLUMNS,
    )


def one_line(text: str) -> str:
    """An answer without line breaks and other control characters, which break tables."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
