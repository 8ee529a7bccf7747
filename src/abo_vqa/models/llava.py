"""LLaVA 1.5 (Liu et al., 2023, arXiv:2310.03744)."""

from __future__ import annotations

from typing import Any, ClassVar

from transformers import LlavaForConditionalGeneration, LlavaProcessor

from abo_vqa.models.causal.writing import InstructedModel


class Llava(InstructedModel):
    """CLIP's vision tower, a projector, and image tokens where the prompt has <image>."""

    model_class: ClassVar[Any] = LlavaForConditionalGeneration
    processor_class: ClassVar[Any] = LlavaProcessor
    instruction_format: ClassVar[str] = "USER: <image>\n{question} ASSISTANT:"  # as in its training
