"""Any image-text-to-text chat model of transformers: SmolVLM, Qwen-VL, InternVL and others."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from abo_vqa.core.log import get_logger
from abo_vqa.models.causal.architectures import ARCHITECTURES
from abo_vqa.models.causal.prompts import ChatPromptBuilder, PromptBuilder
from abo_vqa.models.causal.writing import InstructedModel
from abo_vqa.models.library_chat import LibraryChat
from abo_vqa.models.prefix import Prefix

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin

    from abo_vqa.core.config import CheckpointConfig
    from abo_vqa.models.pretrained import PretrainedVQAModel

logger = get_logger(__name__)


class Chat(InstructedModel):
    """A user's message with the image and the prompt, in the checkpoint's own chat template."""

    prompt_builder: ClassVar[type[PromptBuilder]] = ChatPromptBuilder

    @classmethod
    def class_for(
        cls, model: PreTrainedModel, processor: ProcessorMixin, checkpoint: CheckpointConfig
    ) -> type[PretrainedVQAModel]:
        """Return the class for an architecture, or for a checkpoint without a template."""
        template = processor.chat_template or processor.tokenizer.chat_template
        if template is None:
            logger.warning(
                f"{checkpoint.path} has no chat template: its prompt is used as it is, as with "
                "family: prefix."
            )
            return Prefix.class_for(model, processor, checkpoint)
        return cls if model.config.model_type in ARCHITECTURES else LibraryChat
