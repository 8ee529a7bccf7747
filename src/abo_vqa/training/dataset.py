"""The training rows as tokens and vision outputs, and how rows become a batch of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from abo_vqa.core.memory import out_of_memory

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedTokenizerBase

IGNORED = -100  # torch's label for positions that the loss leaves out


class ImageSource(Protocol):
    """Where a batch's images come from."""

    def get(self, paths: Sequence[str]) -> Tensor:
        """Return vision outputs [P, T, W], or pixels [P, 3, H, W] if the vision tower is trained.

        Args:
            paths: P different images.
        """
        ...


@dataclass(frozen=True)
class Batch:
    """B rows about P images.

    Attributes:
        rows: the rows' positions in the table.
        images: vision outputs [P, T, W] or pixels [P, 3, H, W].
        image_index: [B] each row's image; stays on the CPU, where it decides what is computed.
        questions: [B, L] token ids.
        mask: [B, L] 1 where a question's token isn't padding; stays on the CPU for the same reason.
        inputs: [B, A] answer tokens that the decoder is given.
        labels: [B, A] the token that follows each of them, or `IGNORED`.
    """

    rows: list[int]
    images: Tensor
    image_index: Tensor
    questions: Tensor
    mask: Tensor
    inputs: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device.

        Copies to a GPU go through pinned memory and don't block: they are queued among the kernels.
        They are a few MB, under a hundredth of a step.
        """
        if device.type != "cuda":
            return self
        moved = {}
        for name in ("images", "questions", "mask", "inputs", "labels"):
            tensor = getattr(self, name)
            if tensor.device.type == "cpu":
                tensor = _pin(tensor)
            moved[name] = tensor if name == "mask" else tensor.to(device, non_blocking=True)
        return replace(self, **moved)


def _pin(tensor: Tensor) -> Tensor:
    """A copy in pinned memory, or the tensor itself where the system lets no more be pinned.

    Its copy to the GPU is slower then.
    """
    try:
        return tensor.pin_memory()
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        return tensor


class VqaDataset:
    """A table's questions and answers as tokens, with their images.

    Args:
        table: columns image_path, question, answer, and row_id if there is one.
        tokenizer: the model's tokenizer.
        start: the token that an answer begins with.
        end: the token that an answer ends with.
        images: where the images come from.

    Attributes:
        image_paths: each row's image.
        row_ids: each row's id.
        questions: each row's question as tokens [length].
        answers: each row's answer as tokens [length], start and end included.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        tokenizer: PreTrainedTokenizerBase,
        start: int,
        end: int,
        images: ImageSource,
    ) -> None:
        self.image_paths: list[str] = table["image_path"].tolist()
        self.row_ids = table["row_id" if "row_id" in table else table.columns[0]].tolist()
        questions = tokenizer(table["question"].tolist())["input_ids"]
        self.questions = [torch.tensor(ids) for ids in questions]
        lowered = [answer.lower() for answer in table["answer"]]
        answers = tokenizer(lowered, add_special_tokens=False)["input_ids"]
        self.answers = [torch.tensor([start, *ids, end]) for ids in answers]
        self.images = images
        self._pad = tokenizer.pad_token_id

    def answer_tokens(self, rows: Sequence[int]) -> int:
        """Return how many tokens the rows' loss counts, end tokens included."""
        return sum(len(self.answers[i]) - 1 for i in rows)

    def collate(self, rows: Sequence[int]) -> Batch:
        """Return rows as tensors, padded to the longest question and answer among them."""
        paths = list(dict.fromkeys(self.image_paths[i] for i in rows))
        index = {path: i for i, path in enumerate(paths)}
        questions, mask = pad_tokens([self.questions[i] for i in rows], self._pad)
        answers, known = pad_tokens([self.answers[i] for i in rows], self._pad)
        return Batch(
            rows=list(rows),
            images=self.images.get(paths),
            image_index=torch.tensor([index[self.image_paths[i]] for i in rows]),
            questions=questions,
            mask=mask,
            inputs=answers[:, :-1],
            labels=answers[:, 1:].masked_fill(known[:, 1:] == 0, IGNORED),
        )


def pad_tokens(sequences: Sequence[Tensor], pad: int) -> tuple[Tensor, Tensor]:
    """Return token ids [B, L] padded on the right, and their mask [B, L], 0 at padding."""
    ids = pad_sequence(list(sequences), batch_first=True, padding_value=pad)
    lengths = torch.tensor([len(tokens) for tokens in sequences])
    return ids, (torch.arange(ids.shape[1]) < lengths[:, None]).long()
