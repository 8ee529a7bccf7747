"""Validation: which rows are held out, and how well the model answers rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from sklearn.model_selection import GroupShuffleSplit

from abo_vqa.core.errors import UserError
from abo_vqa.core.log import get_logger
from abo_vqa.core.memory import out_of_memory, release_memory
from abo_vqa.data.groups import group_rows, strictest_group
from abo_vqa.data.normalise import same_answer
from abo_vqa.data.similarity_rule import configured_rule
from abo_vqa.training.sampler import split_batch
from abo_vqa.training.step import autocast_context

if TYPE_CHECKING:
    import pandas as pd

    from abo_vqa.core.config import Config
    from abo_vqa.training.dataset import VqaDataset

logger = get_logger(__name__)


def hold_out(table: pd.DataFrame, config: Config) -> tuple[list[int], list[int]]:
    """Return the positions to train on and to validate on.

    They share no group of the split's kind, or of the strictest that the columns allow.

    Args:
        table: the training rows.
        config: the settings.

    Returns:
        The positions to train on, and those held out; none are if `lora.validation` is 0.

    Raises:
        UserError: there are too few groups for a share to be held out.
    """
    share = config.lora.validation
    if share == 0:
        return list(range(len(table))), []
    kind = strictest_group(table.columns, config.split.group)
    groups = group_rows(table, kind, configured_rule(config))
    count = len(set(groups))
    if math.ceil(share * count) >= count:
        raise UserError(
            f"lora.validation is {share:g}, but the training rows form {count} group(s) by {kind}: "
            "too few to hold some out and train on others. Set it to 0, which validates on the "
            "training rows, or use more rows."
        )
    splitter = GroupShuffleSplit(n_splits=1, test_size=share, random_state=config.seed)
    train, validation = next(splitter.split(table, groups=groups))
    return train.tolist(), validation.tolist()


class Validator:
    """Measures exact match (after normalisation) and loss, with the model as it is when called.

    Args:
        dataset: the rows as tokens and images, with the model that answers them.
        table: the table that `dataset` was made of.
        rows: positions in it to validate on.
        dtype: dtype of the arithmetic.
    """

    def __init__(
        self,
        dataset: VqaDataset,
        table: pd.DataFrame,
        rows: Sequence[int],
        dtype: torch.dtype,
    ) -> None:
        self._dataset, self._family, self._dtype = dataset, dataset.family, dtype
        self._questions, self._answers = table["question"].tolist(), table["answer"].tolist()
        self._limit: int | None = None  # rows that memory suffices for, once it was too small
        self._places = {row: at for at, row in enumerate(rows)}
        size = self._family.validation_batch_size
        self._batches = [list(rows[i : i + size]) for i in range(0, len(rows), size)]

    def __call__(self, rank: int = 0, world_size: int = 1) -> list[float]:
        """Return this process's correct answers, rows, summed loss and answer tokens.

        For each of the rows a number follows: 1 if this process answered it, and correctly, else 0.

        Raises:
            UserError: a single image's questions don't fit into memory.
        """
        totals, correct = [0.0] * 4, [0.0] * len(self._places)
        for batch in self._batches[rank::world_size]:
            for rows, right, loss in self._measure(batch):
                counts = (sum(right), len(rows), loss, self._dataset.answer_tokens(rows))
                totals = [total + count for total, count in zip(totals, counts, strict=True)]
                for row, is_right in zip(rows, right, strict=True):
                    correct[self._places[row]] = float(is_right)
        return totals + correct

    def _measure(self, rows: Sequence[int]) -> Iterator[tuple[Sequence[int], list[bool], float]]:
        """Some rows, which answers are right, summed loss; in halves where memory is too small."""
        halves = split_batch(rows, self._dataset.image_paths, 2)
        if self._limit is None or len(rows) <= self._limit or len(halves) < 2:
            try:
                with torch.no_grad(), autocast_context(self._family.device, self._dtype):
                    loss, predictions = self.predict(rows)
                right = [
                    same_answer(prediction, self._answers[i])
                    for prediction, i in zip(predictions, rows, strict=True)
                ]
                yield rows, right, loss
                return
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
            release_memory()
            if len(halves) < 2:
                raise UserError(
                    "out of memory while validating a single image's questions. Use "
                    "compute.dtype: bfloat16, or a larger GPU."
                )
            self._limit = (len(rows) + 1) // 2
            logger.warning(f"out of memory: validating {self._limit} rows at a time")
        for half in halves:
            yield from self._measure(half)

    def predict(self, rows: Sequence[int]) -> tuple[float, list[str]]:
        """Return the summed loss of the rows, and the model's own answers."""
        batch = self._dataset.collate(rows).to(self._family.device)
        loss = float(self._family.loss(batch))
        images = self._family.encoded_images(batch)
        questions = [self._questions[i] for i in rows]
        answers = self._family.vqa.predict_answers(images, batch.image_index.tolist(), questions)
        return loss, [answer.text for answer in answers]
