"""Rows → batches: tokens once, whole pictures together, every epoch's order from the seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from abo_vqa.core.memory import out_of_memory

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

IGNORED = -100  # torch's label for positions that the loss leaves out
_WINDOW = 8  # batches whose rows are sorted by length: more pad less, but mix less too


class Pictures(Protocol):
    """Where pictures come from: vision outputs [P, T, W], or pixels [P, 3, H, W]."""

    def get(self, paths: Sequence[str]) -> Tensor: ...


@dataclass(frozen=True)
class Batch:
    """B rows about P pictures.

    Attributes:
        rows: positions in the table. pictures: see `Pictures`.
        which: [B] each row's picture; stays on the CPU, where it decides what is run.
        questions, mask: [B, L] tokens, and where they aren't padding; the mask stays there, too.
        inputs: [B, A] answer tokens the decoder is given; labels: [B, A] what it should say.
    """

    rows: list[int]
    pictures: Tensor
    which: Tensor
    questions: Tensor
    mask: Tensor
    inputs: Tensor
    labels: Tensor

    def to(self, device: Any) -> Batch:
        """On a GPU through pinned memory: nobody waits for the copies, which take their turn among
        the arithmetic. They are a few MB, under a hundredth of a step."""
        if device.type != "cuda":
            return self
        moved = {}
        for name in ("pictures", "questions", "mask", "inputs", "labels"):
            tensor = getattr(self, name)
            if tensor.device.type == "cpu":
                tensor = pinned(tensor)
            moved[name] = tensor if name == "mask" else tensor.to(device, non_blocking=True)
        return replace(self, **moved)


def pinned(tensor: Tensor) -> Tensor:
    """A copy in pinned memory; the tensor itself where the system lets no more be pinned, which
    makes its copy to the GPU slower, no more."""
    try:
        return tensor.pin_memory()
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        return tensor


class Examples:
    """A table's questions and answers as tokens, and its pictures.

    Args:
        table: columns image_path, question, answer, and row_id where there is one.
        start, end: the tokens an answer begins and ends with.
    """

    def __init__(
        self, table: pd.DataFrame, tokenizer: Any, start: int, end: int, pictures: Pictures
    ) -> None:
        self.paths = table["image_path"].tolist()
        self.names = table["row_id" if "row_id" in table else table.columns[0]].tolist()
        self.questions = tokenizer(table["question"].tolist())["input_ids"]
        lowered = [answer.lower() for answer in table["answer"]]
        spelled = tokenizer(lowered, add_special_tokens=False)["input_ids"]
        self.answers = [[start, *ids, end] for ids in spelled]
        self.pad = tokenizer.pad_token_id
        self.pictures = pictures

    def tokens(self, rows: Sequence[int]) -> int:
        """How many answer tokens the rows' loss counts, end tokens included."""
        return sum(len(self.answers[i]) - 1 for i in rows)

    def batch(self, rows: Sequence[int]) -> Batch:
        """Tensors of rows, padded to the longest question and answer among them."""
        import torch

        paths = list(dict.fromkeys(self.paths[i] for i in rows))
        place = {path: at for at, path in enumerate(paths)}
        questions, mask = padded([self.questions[i] for i in rows], self.pad)
        answers, known = padded([self.answers[i] for i in rows], self.pad)
        return Batch(
            rows=list(rows),
            pictures=self.pictures.get(paths),
            which=torch.tensor([place[self.paths[i]] for i in rows]),
            questions=questions,
            mask=mask,
            inputs=answers[:, :-1],
            labels=answers[:, 1:].masked_fill(known[:, 1:] == 0, IGNORED),
        )


def padded(lists: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Lists of tokens as [B, longest], and [B, longest] 1 where a token isn't padding."""
    import torch

    longest = max(map(len, lists))
    ids = torch.tensor([[*tokens, *[pad] * (longest - len(tokens))] for tokens in lists])
    lengths = torch.tensor([len(tokens) for tokens in lists])
    return ids, (torch.arange(longest) < lengths[:, None]).long()


def epoch_plan(
    paths: Sequence[str],
    rows: Sequence[int],
    size: int,
    seed: int,
    epoch: int,
    grouped: bool,
    lengths: Sequence[int],
) -> list[list[int]]:
    """The batches of one epoch: `rows` in a random order that seed and epoch alone decide.

    Questions of like lengths meet in a batch: of every `_WINDOW` batches' worth of the random order,
    the rows are sorted by length before they are cut; then the batches are shuffled.

    Args:
        size: rows a batch, about: with `grouped`, a picture's rows stay together, and a batch ends
            with the picture that fills it.
        lengths: tokens of each row's question.
    """
    chance = random.Random(f"{seed}:{epoch}")
    units: dict[Any, list[int]] = {}
    for row in rows:
        units.setdefault(paths[row] if grouped else row, []).append(row)
    order = list(units.values())
    chance.shuffle(order)
    alike = [
        unit
        for window in _filled(order, _WINDOW * size)
        for unit in sorted(window, key=lambda unit: max(lengths[row] for row in unit))
    ]
    plan = [[row for unit in batch for row in unit] for batch in _filled(alike, size)]
    chance.shuffle(plan)
    return plan


def _filled(units: Sequence[list[int]], size: int) -> list[list[list[int]]]:
    """Units in a row, cut wherever `size` rows are reached."""
    cut: list[list[list[int]]] = [[]]
    count = 0
    for unit in units:
        if count >= size:
            cut.append([])
            count = 0
        cut[-1].append(unit)
        count += len(unit)
    return cut


def parts(batch: Sequence[int], paths: Sequence[str], count: int) -> list[list[int]]:
    """A batch cut into at most `count` parts of whole pictures, about equally large."""
    units: dict[str, list[int]] = {}
    for row in batch:
        units.setdefault(paths[row], []).append(row)
    cut: list[list[int]] = [[] for _ in range(min(count, len(units)))]
    for rows in units.values():
        min(cut, key=len).extend(rows)
    return cut
