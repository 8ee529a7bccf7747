"""Models without a chat template: PaliGemma (arXiv:2407.07726) and other base models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from abo_vqa.core.errors import UserError
from abo_vqa.core.log import get_logger
from abo_vqa.models.causal.architectures import ARCHITECTURES
from abo_vqa.models.causal.model import CausalVQAModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin

    from abo_vqa.core.config import CheckpointConfig
    from abo_vqa.models.pretrained import PretrainedVQAModel

logger = get_logger(__name__)


class Prefix(CausalVQAModel):
    """The prompt as it is in the settings, after the image unless it has the image token in it."""

    @classmethod
    def class_for(
        cls, model: PreTrainedModel, processor: ProcessorMixin, checkpoint: CheckpointConfig
    ) -> type[PretrainedVQAModel]:
        """Refuse an architecture that the engine doesn't know.

        Raises:
            UserError: it isn't one of `ARCHITECTURES`.
        """
        if processor.chat_template or processor.tokenizer.chat_template:
            logger.warning(
                f"{checkpoint.path} has a chat template, which family: prefix doesn't use. Models "
                "that were trained to chat answer better with family: chat."
            )
        architecture = model.config.model_type
        if architecture not in ARCHITECTURES:
            raise UserError(
                f"{checkpoint.path} is a model of the type {architecture}, and without a chat "
                f"template only these can be asked: {', '.join(ARCHITECTURES)}."
            )
        return cls
