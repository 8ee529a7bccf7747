"""Rows of questions → answers, at any scale: batched, journaled, resumable, tolerant.

Batches are formed over all rows before anything else, so neither the number of processes nor an
interruption can change which rows share a batch, hence not a bit of an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from abo_vqa.core.errors import UserError
from abo_vqa.core.progress import progress_bar
from abo_vqa.models.answering.batches import HOPELESS, BatchHalver, batches
from abo_vqa.models.answering.journal import Journal, collect
from abo_vqa.models.base import VQAModel
from abo_vqa.models.sources import Pictures, ahead

if TYPE_CHECKING:
    from abo_vqa.models.base import VQAModel


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
    keys = rows["image_path" if model.batch_by == "image" else "question"]
    row_ids = rows["row_id"].astype(int).tolist()
    # A batch is whole or not in the journal at all, but for rows that memory wasn't enough for.
    shares = batches(keys.tolist(), size)[rank::world]
    left = [[i for i in batch if row_ids[i] not in done] for batch in shares]
    mine = [batch for batch in left if batch]
    write = journal.writer(rank)
    halving = BatchHalver(model, pictures)
    failed = 0
    before = len(rows) - sum(map(len, mine)) * world
    with progress_bar(
        len(rows), initial=before, desc="answering", unit="row", disable=rank != 0
    ) as bar:
        for batch, loaded in ahead(mine, lambda b: pictures.load(model, _paths_of(rows, b))):
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
            bar.update(min(len(batch) * world, len(rows) - bar.n))  # the others' may be smaller
    if failed:
        what = _unanswered(failed, halving.hopeless)
        raise UserError(f"out of memory: {what}. {model.memory_advice(weights)}")


def _unanswered(failed: int, hopeless: bool) -> str:
    """What memory wasn't enough for, and what has become of the rest."""
    if hopeless:
        return f"{HOPELESS} rows, one after another and each alone, and so the rest wasn't tried"
    return (
        f"{failed:,} row(s), each alone; the others' answers are kept, and the same command asks "
        "for the missing ones only"
    )


def _paths_of(rows: pd.DataFrame, batch: Sequence[int]) -> list[str]:
    return list(dict.fromkeys(rows["image_path"].iloc[list(batch)]))


def predict_rows(
    model: VQAModel,
    rows: pd.DataFrame,
    pictures: Pictures,
    journal_folder: Path,
    size: int = 64,
    weights: str = "<name>",
) -> pd.DataFrame:
    """Answer rows with a loaded model; what the journal holds already isn't asked again.

    Args:
        rows: columns row_id, image_path, question.
        size: rows a batch at most.
        weights: the model's key under `models`.
    Returns:
        Columns row_id, prediction, confidence, error, in the order of `rows`.
    """
    answer_rows(model, rows, pictures, journal_folder, size, weights=weights)
    predictions = collect(rows, journal_folder)
    assert predictions is not None
    return predictions
