"""Models of transformers behind the contract of `abo_vqa.models.base`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from abo_vqa.models.base import VQAModel
from abo_vqa.models.loading import load_pretrained, load_processor

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, ProcessorMixin

    from abo_vqa.core.config import CheckpointConfig, ComputeConfig


class PretrainedVQAModel(VQAModel):
    """A model of transformers and its processor.

    Args:
        model: the model, in evaluation mode.
        processor: the image processor and the tokenizer.
        checkpoint: the checkpoint's settings.
        device: the device that inputs are moved to.

    Attributes:
        model_class: the class of transformers that loads the weights.
        processor_class: the class of transformers that loads the processor.
    """

    model_class: ClassVar[Any]
    processor_class: ClassVar[Any]

    def __init__(
        self,
        model: PreTrainedModel,
        processor: ProcessorMixin,
        checkpoint: CheckpointConfig,
        device: torch.device,
    ) -> None:
        self.model = model
        self.processor = processor
        self.checkpoint = checkpoint
        self.device = device

    @classmethod
    def load(cls, checkpoint: CheckpointConfig, compute: ComputeConfig) -> PretrainedVQAModel:
        """Load the weights and the processor.

        Args:
            checkpoint: the checkpoint's settings.
            compute: the device and the default dtype.

        Returns:
            The model in evaluation mode.

        Raises:
            UserError: they can't be loaded.
        """
        model, device = load_pretrained(
            cls.model_class, checkpoint, compute, supported_settings=cls.supported_settings
        )
        processor = load_processor(cls.processor_class, checkpoint)
        chosen = cls.class_for(model, processor, checkpoint)
        loaded = chosen(model, processor, checkpoint, device)
        loaded.prepare_processor()
        return loaded

    @classmethod
    def class_for(
        cls, model: PreTrainedModel, processor: ProcessorMixin, checkpoint: CheckpointConfig
    ) -> type[PretrainedVQAModel]:
        """Return the class that wraps a loaded model.

        Args:
            model: the model.
            processor: its processor.
            checkpoint: the checkpoint's settings.
        """
        del model, processor, checkpoint
        return cls

    def prepare_processor(self) -> None:
        """Set or check what the family needs of its processor; called by `load`."""
