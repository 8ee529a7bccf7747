"""BLIP: an encoder of questions and a decoder of answers, with cross-attention to the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from abo_vqa.models.blip.attention import answer_logits, encode_questions
from abo_vqa.models.blip.vision import vision_forward
from abo_vqa.training.batch import IGNORED, Batch, pad_tokens
from abo_vqa.training.family import TokenizedRow, TrainableFamily

if TYPE_CHECKING:
    from transformers import BlipForQuestionAnswering

    from abo_vqa.models.pretrained import PretrainedVQAModel

_VALIDATION_ROWS = 256


@dataclass(frozen=True)
class BlipBatch(Batch):
    """B rows as BLIP reads them.

    Attributes:
        questions: [B, L] token ids.
        mask: [B, L] 1 where a question's token isn't padding; stays on the CPU.
        inputs: [B, A] answer tokens that the decoder is given.
        labels: [B, A] the token that follows each of them, or `IGNORED`.
    """

    stays_on_cpu: ClassVar[tuple[str, ...]] = ("image_index", "mask")
    questions: Tensor
    mask: Tensor
    inputs: Tensor
    labels: Tensor


class BlipFamily(TrainableFamily):
    """An image is projected to keys and values once for all its questions in a batch."""

    def __init__(self, vqa: PretrainedVQAModel) -> None:
        super().__init__(vqa)
        self._checkpointing = False

    @property
    def validation_batch_size(self) -> int:
        """Rows that are validated at a time; the same for all profiles."""
        return _VALIDATION_ROWS

    def tokenize(self, questions: Sequence[str], answers: Sequence[str]) -> list[TokenizedRow]:
        """Tokenize questions, and answers in lower case between start and end token.

        Args:
            questions: N questions.
            answers: N answers.
        """
        tokenizer, text = self.vqa.processor.tokenizer, self.vqa.model.config.text_config
        start, end = text.bos_token_id, text.sep_token_id
        question_ids = tokenizer(list(questions))["input_ids"]
        lowered = [answer.lower() for answer in answers]
        answer_ids = tokenizer(lowered, add_special_tokens=False)["input_ids"]
        return [
            TokenizedRow(
                torch.tensor(question), torch.tensor([start, *answer, end]), len(answer) + 1
            )
            for question, answer in zip(question_ids, answer_ids, strict=True)
        ]

    def collate(
        self, rows: list[int], texts: Sequence[TokenizedRow], images: Any, image_index: Tensor
    ) -> BlipBatch:
        """Pad to the longest question and answer.

        Args:
            rows: the positions of B rows in the table.
            texts: the rows' tokens.
            images: vision outputs [P, T, V] or pixels [P, 3, H, W].
            image_index: [B] each row's image.
        """
        pad = self.vqa.processor.tokenizer.pad_token_id
        questions, mask = pad_tokens([text.question for text in texts], pad)
        answers, known = pad_tokens([text.answer for text in texts], pad)
        labels = answers[:, 1:].masked_fill(known[:, 1:] == 0, IGNORED)
        return BlipBatch(rows, images, image_index, questions, mask, answers[:, :-1], labels)

    def loss(self, batch: Batch) -> Tensor:
        """Return the summed cross-entropy of the answers' tokens, end tokens included.

        Args:
            batch: from `collate`, on the device.
        """
        assert isinstance(batch, BlipBatch)
        blip: BlipForQuestionAnswering = self.vqa.model
        states = encode_questions(
            blip.text_encoder,
            batch.questions,
            batch.mask,
            self.encoded_images(batch),
            batch.image_index,
            checkpointing=self._checkpointing,
        )  # [B, L, W]
        logits = answer_logits(
            blip.text_decoder, batch.inputs, states, batch.mask, checkpointing=self._checkpointing
        )  # [B, A, vocabulary]
        return F.cross_entropy(
            logits.flatten(0, 1).float(),
            batch.labels.flatten(),
            ignore_index=IGNORED,
            reduction="sum",
        )

    def encoded_images(self, batch: Batch) -> Tensor:
        """Return vision outputs [P, T, V]: the batch's own, or the tower's of its pixels.

        Args:
            batch: from `collate`, on the device.
        """
        return vision_outputs(self.vqa.model, batch.images, checkpointing=self._checkpointing)

    def enable_gradient_checkpointing(self) -> None:
        """Compute each layer's inner states again in the backward pass instead of keeping them.

        The attention here calls the library's layers one by one, so it does this itself.
        """
        self._checkpointing = True


def vision_outputs(
    blip: BlipForQuestionAnswering, images: Tensor, *, checkpointing: bool = False
) -> Tensor:
    """Return vision outputs [P, T, V]: `images` themselves, or the tower's of pixels.

    Args:
        blip: the model.
        images: vision outputs [P, T, V] or pixels [P, 3, H, W].
        checkpointing: whether layers are computed again in the backward pass.
    """
    if not torch.is_autocast_enabled(images.device.type):
        images = images.to(blip.dtype)  # they may be stored in half precision
    if images.ndim == 4:
        images = vision_forward(blip.vision_model, images, checkpointing=checkpointing)
    return images
