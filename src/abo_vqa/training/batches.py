"""Rows → batches: tokens once, whole pictures together, every epoch's order from the seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from abo_vqa.embed import EmbeddingStore

IGNORED = -100  # torch's label for positions that the loss leaves out


@dataclass(frozen=True)
class Batch:
    """B rows about P pictures.

    Attributes:
        rows: positions in the table. pictures: [P, T, W] vision outputs; which: [B].
        questions, mask: [B, L] tokens and where they aren't padding.
        inputs: [B, A] answer tokens the decoder is given; labels: [B, A] what it should say.
    """

    rows: list[int]
    pictures: Tensor
    which: Tensor
    questions: Tensor
    mask: Tensor
    inputs: Tensor
    labels: Tensor


class Examples:
    """A table's questions and answers as tokens, and its pictures' vision outputs.

    Args:
        table: columns image_path, question, answer.
        start, end: the tokens an answer begins and ends with.
    """

    def __init__(
        self, table: pd.DataFrame, tokenizer: Any, start: int, end: int, store: EmbeddingStore
    ) -> None:
        self.paths = table["image_path"].tolist()
        self.questions = tokenizer(table["question"].tolist())["input_ids"]
        lowered = [answer.lower() for answer in table["answer"]]
        spelled = tokenizer(lowered, add_special_tokens=False)["input_ids"]
        self.answers = [[start, *ids, end] for ids in spelled]
        self.pad = tokenizer.pad_token_id
        self.store = store

    def batch(self, rows: Sequence[int], device: Any = "cpu") -> Batch:
        """Tensors of rows, padded to the longest question and answer among them."""
        import torch

        paths = list(dict.fromkeys(self.paths[i] for i in rows))
        place = {path: at for at, path in enumerate(paths)}
        questions, mask = padded([self.questions[i] for i in rows], self.pad)
        answers, known = padded([self.answers[i] for i in rows], self.pad)
        labels = answers[:, 1:].masked_fill(known[:, 1:] == 0, IGNORED)
        tensors = (
            self.store.get(paths),
            torch.tensor([place[self.paths[i]] for i in rows]),
            questions,
            mask,
            answers[:, :-1],
            labels,
        )
        return Batch(list(rows), *(tensor.to(device, non_blocking=True) for tensor in tensors))


def padded(lists: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Lists of tokens as [B, longest], and [B, longest] 1 where a token isn't padding."""
    import torch

    longest = max(map(len, lists))
    ids = torch.tensor([[*tokens, *[pad] * (longest - len(tokens))] for tokens in lists])
    lengths = torch.tensor([len(tokens) for tokens in lists])
    return ids, (torch.arange(longest) < lengths[:, None]).long()


def epoch_plan(
    paths: Sequence[str], rows: Sequence[int], size: int, seed: int, epoch: int, grouped: bool
) -> list[list[int]]:
    """The batches of one epoch: `rows` in a random order that seed and epoch alone decide.

    Args:
        size: rows a batch, about: with `grouped`, a picture's rows stay together, and a batch ends
            with the picture that fills it.
    """
    chance = random.Random(f"{seed}:{epoch}")
    units: dict[Any, list[int]] = {}
    for row in rows:
        units.setdefault(paths[row] if grouped else row, []).append(row)
    order = list(units)
    chance.shuffle(order)
    plan: list[list[int]] = [[]]
    for unit in order:
        if len(plan[-1]) >= size:
            plan.append([])
        plan[-1] += units[unit]
    return plan


def parts(batch: Sequence[int], paths: Sequence[str], count: int) -> list[list[int]]:
    """A batch cut into at most `count` parts of whole pictures, the largest first."""
    units: dict[str, list[int]] = {}
    for row in batch:
        units.setdefault(paths[row], []).append(row)
    cut: list[list[int]] = [[] for _ in range(min(count, len(units)))]
    for rows in units.values():
        min(cut, key=len).extend(rows)
    return cut
