"""The contract of families that LoRA can be trained on: what the training loop needs of one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from abo_vqa.models.pretrained import PretrainedVQAModel
    from abo_vqa.training.batch import Batch


@dataclass(frozen=True)
class TokenizedRow:
    """A question and its answer as tokens.

    Attributes:
        question: [L] the tokens of the question, or of the prompt with it.
        answer: [A] the answer's tokens, as the family needs them.
        loss_tokens: how many tokens of the answer the loss counts.
    """

    question: Tensor
    answer: Tensor
    loss_tokens: int


class TrainableFamily(ABC):
    """What a family brings to the training: rows as tokens, batches, and the loss.

    Its default targets are in `LORA_TARGETS` of `core.trainable`, with the settings' other
    defaults; the names of its vision part are in `PretrainedVQAModel.vision_modules`.

    Args:
        vqa: the loaded model. `add_lora` replaces layers of `vqa.model`, which stays the same
            object: `loss` and `vqa.predict_answers` see what is trained.

    Attributes:
        vqa: see above.
    """

    def __init__(self, vqa: PretrainedVQAModel) -> None:
        self.vqa = vqa

    @property
    def device(self) -> torch.device:
        """The device that batches go to."""
        return self.vqa.device

    @property
    def validation_batch_size(self) -> int:
        """Rows that are validated at a time, if memory allows."""
        return self.vqa.checkpoint.batch_size

    @abstractmethod
    def tokenize(self, questions: Sequence[str], answers: Sequence[str]) -> list[TokenizedRow]:
        """Turn rows into tokens; called once, for all rows.

        Args:
            questions: N questions.
            answers: N answers.
        """

    @abstractmethod
    def collate(
        self, rows: list[int], texts: Sequence[TokenizedRow], images: Any, image_index: Tensor
    ) -> Batch:
        """Form a batch on the CPU; called in a background thread.

        Args:
            rows: the positions of B rows in the table.
            texts: the rows' tokens.
            images: P images, encoded or preprocessed, see `ImageSource`.
            image_index: [B] each row's image.
        """

    @abstractmethod
    def loss(self, batch: Batch) -> Tensor:
        """Return the summed cross-entropy of the answers' tokens.

        Args:
            batch: from `collate`, on the device.
        """

    @abstractmethod
    def encoded_images(self, batch: Batch) -> Any:
        """Return a batch's images as `vqa.predict_answers` takes them, for validation.

        Args:
            batch: from `collate`, on the device.
        """

    def enable_gradient_checkpointing(self) -> None:
        """Compute each layer's inner states again in the backward pass instead of keeping them."""
        self.vqa.model.gradient_checkpointing_enable({"use_reentrant": False})
