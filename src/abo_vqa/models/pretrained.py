"""Models of transformers behind the contract of `abo_vqa.models.base`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from abo_vqa.models.adapters import Adapter
from abo_vqa.models.base import VQAModel
from abo_vqa.models.loading import load_pretrained, load_processor

if TYPE_CHECKING:
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
        vision_modules: the names that transformers gives the modules of the vision part, of which
            `encode` is made; they may be anywhere in the model.
        half_precision_base: whether the frozen weights stay in the dtype of the settings beside an
            adapter, which is in float32: models of billions of parameters don't fit otherwise.
        is_finetuned: whether the model has an adapter.
    """

    model_class: ClassVar[Any]
    processor_class: ClassVar[Any]
    half_precision_base: ClassVar[bool] = False
    is_finetuned: bool = False
    vision_modules: ClassVar[tuple[str, ...]] = (
        "vision_model",
        "vision_tower",
        "visual",
        "qformer",
        "language_projection",
        "multi_modal_projector",
        "connector",
    )

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
    def load(
        cls,
        checkpoint: CheckpointConfig,
        compute: ComputeConfig,
        adapter: Path | Adapter | None = None,
        dtype: torch.dtype | None = None,
        checkpoint_key: str = "",
    ) -> PretrainedVQAModel:
        """Load the weights, the processor, and a LoRA adapter if one is given.

        What an adapter adds to a weight is often smaller than a step of half precision. So it is
        merged into weights in float32; beside quantised weights and those of half precision (see
        `half_precision_base`) it stays apart.

        Args:
            checkpoint: the checkpoint's settings.
            compute: the device and the default dtype.
            adapter: a PEFT folder, or what has been read of it.
            dtype: overrides the dtype of the settings.
            checkpoint_key: the checkpoint's key under `models` in the profile, for messages.

        Returns:
            The model in evaluation mode.

        Raises:
            UserError: the checkpoint or the adapter can't be loaded, or they don't match.
        """
        peft_adapter = Adapter.read(adapter) if isinstance(adapter, Path) else adapter
        if peft_adapter is not None:
            setting = f"models.{checkpoint_key}.path" if checkpoint_key else "the base"
            peft_adapter.check_base(checkpoint, setting)
            dtype = None if cls.half_precision_base else torch.float32
        cls.check_devices(checkpoint)
        # If the caller sets the dtype, changing it in the profile would have no effect.
        supported = tuple(s for s in cls.supported_settings if dtype is None or s != "dtype")
        model, device = load_pretrained(cls.model_class, checkpoint, compute, dtype, supported)
        cls.check_devices(checkpoint, model)
        processor = load_processor(cls.processor_class, checkpoint)
        if peft_adapter is not None:
            exact = not checkpoint.quantize and model.dtype == torch.float32
            combine = peft_adapter.merge if exact else peft_adapter.attach
            model = combine(model).eval().requires_grad_(False)
        chosen = cls.class_for(model, processor, checkpoint)
        loaded = chosen(model, processor, checkpoint, device)
        loaded.supported_settings = supported
        loaded.is_finetuned = peft_adapter is not None
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

    @classmethod
    def check_devices(
        cls, checkpoint: CheckpointConfig, model: PreTrainedModel | None = None
    ) -> None:
        """Refuse devices that the family can't run on; called by `load`, before and after loading.

        Args:
            checkpoint: the checkpoint's settings.
            model: the loaded model; None before.
        """

    def prepare_processor(self) -> None:
        """Set or check what the family needs of its processor; called by `load`."""
