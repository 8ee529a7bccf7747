"""Tables of questions → answers: batched, journaled, resumable.

Batches are formed over all rows before anything else. So neither the number of processes nor an
interruption changes which rows share a batch, and with it the rounding of an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from abo_vqa.core.errors import UserError
from abo_vqa.core.progress import progress_bar
from abo_vqa.models.answering.batches import MAX_FAILURES, AdaptiveBatcher, form_batches
from abo_vqa.models.answering.journal import Journal, collect
from abo_vqa.models.sources import ImageLoader, prefetch

if TYPE_CHECKING:
    from abo_vqa.models.base import VQAModel


def answer_rows(
    model: VQAModel,
    rows: pd.DataFrame,
    images: ImageLoader[Any],
    journal_folder: Path,
    size: int,
    checkpoint_key: str,
    rank: int = 0,
    world_size: int = 1,
) -> None:
    """Answer this process's share of the rows, except those already in the journal.

    Args:
        model: the model.
        rows: columns row_id, image_path, question.
        images: where the images come from.
        journal_folder: where the answers go.
        size: maximum number of rows per batch.
        checkpoint_key: the model's key under `models` in the profile, for messages.
        rank: this process takes every `world_size`-th batch, starting with the `rank`-th.
        world_size: the number of processes.

    Raises:
        UserError: memory isn't sufficient for some rows, each alone. The other rows' answers are in
            the journal, unless too many such rows were consecutive.
    """
    journal = Journal(journal_folder)
    done = journal.read()
    keys = rows["image_path" if model.batch_by == "image" else "question"]
    row_ids = rows["row_id"].astype(int).tolist()
    # A batch is in the journal whole or not at all, except for rows that memory wasn't enough for.
    share = form_batches(keys.tolist(), size)[rank::world_size]
    remaining = [[i for i in batch if row_ids[i] not in done] for batch in share]
    pending = [batch for batch in remaining if batch]
    write = journal.writer(rank)
    batcher = AdaptiveBatcher(model, images)
    failed = 0
    before = len(rows) - sum(map(len, pending)) * world_size
    with progress_bar(
        len(rows), initial=before, desc="answering", unit="row", disable=rank != 0
    ) as bar:
        for batch, loaded in prefetch(pending, lambda b: images.load(model, _paths_of(rows, b))):
            answers = batcher.answer(rows.iloc[batch], loaded)
            answered = {
                row_ids[i]: answer
                for i, answer in zip(batch, answers, strict=True)
                if answer is not None
            }
            if answered:
                write(list(answered), list(answered.values()))
            failed += len(batch) - len(answered)
            if batcher.gave_up:
                break
            bar.set_postfix_str(model.progress_note, refresh=False)
            # The other processes' batches may be smaller.
            bar.update(min(len(batch) * world_size, len(rows) - bar.n))
    if failed:
        message = _failure_message(failed, batcher.gave_up)
        raise UserError(f"out of memory: {message}. {model.memory_advice(checkpoint_key)}")


def _failure_message(failed: int, gave_up: bool) -> str:
    """Say for which rows memory wasn't sufficient, and what happened to the others."""
    if gave_up:
        return (
            f"{MAX_FAILURES} rows in a row didn't fit even one at a time, so the rest weren't tried"
        )
    return (
        f"{failed:,} row(s) didn't fit even one at a time; the other answers are kept, and running "
        "the same command again asks for the missing ones only"
    )


def _paths_of(rows: pd.DataFrame, batch: Sequence[int]) -> list[str]:
    """Return the distinct images of some rows."""
    return list(dict.fromkeys(rows["image_path"].iloc[list(batch)]))


def predict_rows(
    model: VQAModel,
    rows: pd.DataFrame,
    images: ImageLoader[Any],
    journal_folder: Path,
    size: int,
    checkpoint_key: str,
) -> pd.DataFrame:
    """Answer rows with a loaded model, except those already in the journal.

    Args:
        model: the model.
        rows: columns row_id, image_path, question.
        images: where the images come from.
        journal_folder: where the answers go.
        size: maximum number of rows per batch.
        checkpoint_key: the model's key under `models` in the profile, for messages.

    Returns:
        Columns row_id, prediction, confidence, error, in the order of `rows`.
    """
    answer_rows(model, rows, images, journal_folder, size, checkpoint_key)
    predictions = collect(rows, journal_folder)
    assert predictions is not None
    return predictions
