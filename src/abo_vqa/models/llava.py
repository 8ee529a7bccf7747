"""LLaVA 1.5 (Liu et al., 2023, arXiv:2310.03744)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from abo_vqa.models.causal import CausalVQAModel


class Llava(CausalVQAModel):
    """CLIP's vision tower, a projector, and image tokens where the prompt has <image>."""

    model_class: ClassVar[Any] = LlavaForConditionalGeneration
    processor_class: ClassVar[Any] = LlavaProcessor

    @property
    def decoder(self) -> LlavaForConditionalGeneration:
        """The whole model: without pixel values it is its language model."""
        return self.model

    @property
    def num_image_tokens(self) -> int:
        """The patches, with the class token or, as in the study, without it."""
        vision = self.model.config.vision_config
        patches: int = (vision.image_size // vision.patch_size) ** 2
        # "default" leaves the class token out.
        return patches + int(self.model.config.vision_feature_select_strategy == "full")

    def image_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Return the projected patches [N, T, W] for pixel values [N, 3, side, side]."""
        return torch.stack(list(self.model.get_image_features(pixel_values).pooler_output))

    def tokenize_prompts(self, prompts: Sequence[str], num_image_tokens: int) -> list[list[int]]:
        """Tokenize prompts whose image token is repeated for each token of the image."""
        image_token = self.processor.image_token
        expanded = [p.replace(image_token, image_token * num_image_tokens) for p in prompts]
        tokens: list[list[int]] = self.processor.tokenizer(expanded)["input_ids"]
        return tokens
