"""Tables of questions → answers: batched, journaled, resumable.

Batches are formed over all rows before anything else. So neither the number of workers nor an
interruption changes which rows share a batch, and with it the rounding of an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from abo_vqa.core.errors import UserError
from abo_vqa.core.memory import peak_memory
from abo_vqa.core.progress import progress_bar
from abo_vqa.models.answering.batches import MAX_FAILURES, AdaptiveBatcher, form_batches
from abo_vqa.models.answering.journal import Journal, collect
from abo_vqa.models.sources import ImageLoader, prefetch

if TYPE_CHECKING:
    from abo_vqa.models.answers import Answer
    from abo_vqa.models.base import VQAModel


@dataclass(frozen=True)
class AnsweredBatch:
    """What becomes of a batch, wherever it is answered.

    Attributes:
        answers: in the rows' order; None where memory isn't sufficient for a single row.
        gave_up: whether too many consecutive rows didn't fit, so that the rest isn't tried.
        advice: what to change so that a row fits; "" if all did.
        note: what stands behind the progress bar.
        record: what the model's answers depend on.
        metrics: what was measured of the model: `load_seconds` and, on a GPU, `peak_gpu_bytes`.
    """

    answers: list[Answer | None]
    gave_up: bool = False
    advice: str = ""
    note: str = ""
    record: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)


class BatchAnswerer:
    """A model that answers batches of rows, the images of one loaded while another is answered.

    Args:
        model: the model.
        rows: columns row_id, image_path, question.
        images: where the images come from.
        checkpoint_key: the model's key under `models` in the profile, for messages.
        metrics: what was measured when it was loaded.
        resources: closed in the end.
    """

    def __init__(
        self,
        model: VQAModel,
        rows: pd.DataFrame,
        images: ImageLoader[Any],
        checkpoint_key: str,
        metrics: Mapping[str, float] = MappingProxyType({}),
        resources: ExitStack | None = None,
    ) -> None:
        self._model, self._rows, self._images = model, rows, images
        self._checkpoint_key, self._metrics = checkpoint_key, metrics
        self._batcher = AdaptiveBatcher(model, images)
        self._resources = resources

    def __call__(self, batches: Sequence[list[int]]) -> Iterator[AnsweredBatch]:
        """Answer batches.

        Args:
            batches: positions of rows.
        """
        model = self._model
        for batch, loaded in prefetch(batches, self._load):
            answers = self._batcher.answer(self._rows.iloc[batch], loaded)
            metrics = dict(self._metrics)
            if model.device.type == "cuda":
                metrics["peak_gpu_bytes"] = float(peak_memory(model.device))
            yield AnsweredBatch(
                answers,
                self._batcher.gave_up,
                model.memory_advice(self._checkpoint_key) if None in answers else "",
                model.progress_note,
                model.record(),
                metrics,
            )

    def _load(self, batch: Sequence[int]) -> Any:
        return self._images.load(self._model, _paths_of(self._rows, batch))

    def close(self) -> None:
        """Close the archive of the images."""
        if self._resources:
            self._resources.close()


Deal = Callable[[Sequence[list[int]]], Generator[tuple[int, AnsweredBatch], None, None]]
"""Has batches answered, here or by workers; see `Engine.run`."""


def answer_rows(
    deal: Deal, rows: pd.DataFrame, batch_by: str, journal_folder: Path, size: int
) -> AnsweredBatch | None:
    """Have all rows answered, except those already in the journal.

    Args:
        deal: has batches answered.
        rows: columns row_id, image_path, question.
        batch_by: what a batch's rows have in common; see `VQAModel.batch_by`.
        journal_folder: where the answers go.
        size: maximum number of rows per batch.

    Returns:
        The last batch that was answered, with the model's record and measurements; None if all
        rows were in the journal.

    Raises:
        UserError: memory isn't sufficient for some rows, each alone. The other rows' answers are in
            the journal, unless too many such rows were consecutive.
    """
    journal = Journal(journal_folder)
    row_ids = rows["row_id"].to_numpy().astype(np.int64)
    done = journal.read().places(row_ids) >= 0
    keys = rows["image_path" if batch_by == "image" else "question"]
    # A batch is in the journal whole or not at all, except for rows that memory wasn't enough for.
    pending = form_batches(keys, size).without(done)
    write = journal.writer()
    failed, advice, latest = 0, "", None
    before = int(done.sum())
    with (
        progress_bar(len(rows), initial=before, desc="answering", unit="row") as bar,
        closing(deal(pending)) as results,
    ):
        for position, latest in results:
            pairs = zip(row_ids[pending[position]].tolist(), latest.answers, strict=True)
            answered = {row_id: answer for row_id, answer in pairs if answer is not None}
            if answered:
                write(list(answered), list(answered.values()))
            failed += len(latest.answers) - len(answered)
            advice = latest.advice or advice
            if latest.gave_up:
                break
            bar.set_postfix_str(latest.note, refresh=False)
            bar.update(len(latest.answers))
    if failed:
        message = _failure_message(failed, latest is not None and latest.gave_up)
        raise UserError(f"out of memory: {message}. {advice}")
    return latest


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
    answerer = BatchAnswerer(model, rows, images, checkpoint_key)

    def answer_here(
        batches: Sequence[list[int]],
    ) -> Generator[tuple[int, AnsweredBatch], None, None]:
        yield from enumerate(answerer(batches))

    answer_rows(answer_here, rows, model.batch_by, journal_folder, size)
    predictions = collect(rows, journal_folder)
    assert predictions is not None
    return predictions
