"""Held-out rows: which ones, and how the model does on them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from abo_vqa.core.errors import UserError
from abo_vqa.core.memory import out_of_memory, release_memory
from abo_vqa.data.groups import GROUP_COLUMNS, group_rows
from abo_vqa.data.normalise import same_answer
from abo_vqa.training.batches import parts
from abo_vqa.training.loss import seen, summed_loss

if TYPE_CHECKING:
    import pandas as pd

    from abo_vqa.config import Config
    from abo_vqa.models.blip.model import Blip
    from abo_vqa.training.batches import Examples

_BATCH = 256


def hold_out(table: pd.DataFrame, config: Config) -> tuple[list[int], list[int]]:
    """Positions to train on and to validate on; they share no group of the split's kind."""
    from sklearn.model_selection import GroupShuffleSplit

    share = config.lora.validation
    if share == 0:
        return list(range(len(table))), []
    kind = (
        config.split.group
        if set(GROUP_COLUMNS[config.split.group]) <= set(table.columns)
        else "image"
    )
    groups = group_rows(table, kind, config.split.phash_distance)
    splitter = GroupShuffleSplit(n_splits=1, test_size=share, random_state=config.seed)
    train, validation = next(splitter.split(table, groups=groups))
    return train.tolist(), validation.tolist()


class Validator:
    """Exact match (after norm) and loss on some rows, with the model as it is when called.

    Args:
        rows: positions in the table that `examples` was made of.
        dtype: of the arithmetic.
    """

    def __init__(
        self, blip: Blip, examples: Examples, table: pd.DataFrame, rows: Sequence[int], dtype: Any
    ) -> None:
        self.blip, self.examples, self.dtype = blip, examples, dtype
        self.questions, self.answers = table["question"].tolist(), table["answer"].tolist()
        self.limit: int | None = None  # rows that memory is large enough for, once it wasn't
        self.parts = [list(rows[i : i + _BATCH]) for i in range(0, len(rows), _BATCH)]

    def __call__(self, process: int = 0, processes: int = 1) -> list[float]:
        """This process's share: right answers, rows, summed loss, answer tokens.

        Raises:
            UserError: one picture's questions don't fit into memory.
        """
        totals = [0.0] * 4
        for rows in self.parts[process::processes]:
            for found in self.measured(rows):
                totals = [total + value for total, value in zip(totals, found, strict=True)]
        return totals

    def measured(self, rows: Sequence[int]) -> Iterator[list[float]]:
        """The same four numbers of some rows, in halves wherever memory is too small for more."""
        import torch

        if self.limit is None or len(rows) <= self.limit:
            try:
                with torch.no_grad(), self.cast():
                    loss, said = self.ask(rows)
                right = sum(
                    same_answer(a, self.answers[i]) for a, i in zip(said, rows, strict=True)
                )
                yield [right, len(rows), loss, self.examples.tokens(rows)]
                return
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
            release_memory()
            self.limit = (len(rows) + 1) // 2
            print(f"out of memory: validating {self.limit} rows at a time", file=sys.stderr)
        halves = parts(rows, self.examples.paths, 2)
        if len(halves) < 2:
            raise UserError(
                "out of memory while validating a single picture's questions. Use "
                "compute.dtype: bfloat16, or a larger GPU."
            )
        for half in halves:
            yield from self.measured(half)

    def cast(self) -> Any:
        import torch

        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.blip.device.type, self.dtype)

    def ask(self, rows: Sequence[int]) -> tuple[float, list[str]]:
        """Summed loss of the rows, and the model's own answers."""
        batch = self.examples.batch(rows).to(self.blip.device)
        loss = float(summed_loss(self.blip.model, batch))
        pictures = seen(self.blip.model, batch.pictures)
        asked = [self.questions[i] for i in rows]
        said = self.blip.predict_answers(pictures, batch.which.tolist(), asked)
        return loss, [answer.text for answer in said]
