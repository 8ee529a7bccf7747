"""Decoder-only models: the image, the question and the answer in the language model's sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from abo_vqa.core.errors import UserError
from abo_vqa.core.log import get_logger
from abo_vqa.core.processes import rank_and_world_size
from abo_vqa.models.causal.images import PixelInputs
from abo_vqa.models.causal.model import CausalVQAModel
from abo_vqa.models.causal.prefill import Prompt, Segment, same_start
from abo_vqa.models.causal.sequences import Sequences, attention_mask, make_sequences
from abo_vqa.training.batch import IGNORED, Batch
from abo_vqa.training.family import TokenizedRow, TrainableFamily

if TYPE_CHECKING:
    from abo_vqa.models.encoded import EncodedImage
    from abo_vqa.models.pretrained import PretrainedVQAModel

logger = get_logger(__name__)

_PROMPTS = 4096  # that are kept
_MASKED = ("sdpa", "eager")  # attention implementations of transformers that take any mask


@dataclass(frozen=True)
class CausalRow(TokenizedRow):
    """A question and its answer; the prompt's tokens depend on the image as well.

    Attributes:
        text: the question.
    """

    text: str


@dataclass(frozen=True)
class CausalBatch(Batch):
    """B rows in sequences.

    Attributes:
        sequences: the prompts with their answers.
        kept: [K] the positions with a label in any of the sequences.
    """

    sequences: Sequences
    kept: Tensor


class CausalFamily(TrainableFamily):
    """An image stands in one sequence with all its questions in a batch, where that is exact.

    Raises:
        UserError: the architecture can only be asked.
    """

    vqa: CausalVQAModel

    def __init__(self, vqa: PretrainedVQAModel) -> None:
        super().__init__(vqa)
        if not isinstance(vqa, CausalVQAModel):
            raise UserError(
                f"{vqa.checkpoint.path} is a model of the type {vqa.model.config.model_type}, "
                "which can be asked but not fine-tuned here. Set lora.model to another model."
            )
        vqa.is_finetuned = True  # it's validated as it will answer
        text = vqa.model.config.get_text_config()
        self._window: int | None = getattr(text, "sliding_window", None)
        self._share = vqa.architecture.one_sequence and vqa.attention in _MASKED
        if rank_and_world_size()[0] == 0:
            logger.info(
                "an image's questions share a sequence"
                if self._share
                else "each question has a sequence of its own: this architecture's attention "
                "doesn't allow several"
            )
        # Epochs ask the same questions; but a prompt of 600 tokens takes 25 KB.
        self._make_prompt = lru_cache(_PROMPTS)(vqa.make_prompt)

    def tokenize(self, questions: Sequence[str], answers: Sequence[str]) -> list[TokenizedRow]:
        """Tokenize questions, for their lengths, and answers in lower case with an end token.

        Args:
            questions: N questions.
            answers: N answers.
        """
        lengths = self.vqa.processor.tokenizer(list(questions), add_special_tokens=False)
        tokens = [self.vqa.prompts.answer_tokens(answer.lower()) for answer in answers]
        return [
            CausalRow(torch.tensor(ids), torch.tensor(answer), len(answer), question)
            for ids, answer, question in zip(lengths["input_ids"], tokens, questions, strict=True)
        ]

    def collate(
        self, rows: list[int], texts: Sequence[TokenizedRow], images: Any, image_index: Tensor
    ) -> CausalBatch:
        """Put prompts and answers into sequences.

        Args:
            rows: the positions of B rows in the table.
            texts: the rows' tokens.
            images: P encoded or preprocessed images.
            image_index: [B] each row's image.
        """
        order = sorted(range(len(rows)), key=image_index.tolist().__getitem__)
        index = [int(image_index[i]) for i in order]
        prompts = [self._prompt(images[int(image_index[i])], texts[i]) for i in order]
        answers = [texts[i].answer.tolist() for i in order]
        share = self._share and same_start(prompts, index)
        sequences = make_sequences(prompts, answers, index, share)
        if sequences.shared and self._window is not None and sequences.ids.shape[1] > self._window:
            sequences = make_sequences(prompts, answers, index, share=False)
        kept = (sequences.labels != IGNORED).any(0).nonzero()[:, 0]
        return CausalBatch(rows, images, image_index, sequences, kept)

    def _prompt(self, image: EncodedImage | PixelInputs, row: TokenizedRow) -> Prompt:
        """Return a row's prompt, which differs between images of different layouts only."""
        assert isinstance(row, CausalRow)
        return self._make_prompt(image.layout, row.text)

    def loss(self, batch: Batch) -> Tensor:
        """Return the summed cross-entropy of the answers' tokens, end tokens included.

        Args:
            batch: from `collate`, on the device.
        """
        assert isinstance(batch, CausalBatch)
        sequences, images = batch.sequences, self.encoded_images(batch)
        segment = Segment(
            sequences.ids,
            [images[i] for i in sequences.images],
            sequences.positions,
            self._mask(sequences),
            None,
            logits_to_keep=batch.kept,
            token_types=self.vqa.token_types(sequences.ids, sequences.is_prompt),
            use_cache=False,
        )
        logits = self.vqa.forward(segment).logits  # [R, K, V]
        return F.cross_entropy(
            logits.flatten(0, 1).float(),
            sequences.labels[:, batch.kept].flatten(),
            ignore_index=IGNORED,
            reduction="sum",
        )

    def _mask(self, sequences: Sequences) -> Tensor:
        """Return the mask [R, L] of plain sequences, or [R, 1, L, L] of shared ones."""
        if not sequences.shared:
            return (sequences.segments >= 0).long()
        return self.vqa.make_mask(attention_mask(sequences.segments))

    def encoded_images(self, batch: Batch) -> list[EncodedImage]:
        """Return the batch's images, or the vision part's outputs of their pixels.

        Args:
            batch: from `collate`, on the device.
        """
        images: list[Any] = batch.images
        return self.vqa.encode_pixels(images) if isinstance(images[0], PixelInputs) else images
