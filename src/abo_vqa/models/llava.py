"""LLaVA 1.5 (Liu et al., 2023, arXiv:2310.03744)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from abo_vqa.models.causal import ImagePrompted
from abo_vqa.models.loading import load_pretrained, load_processor

if TYPE_CHECKING:
    import torch

    from abo_vqa.config import CheckpointConfig, ComputeConfig


class Llava(ImagePrompted):
    """CLIP's vision tower → projector → image tokens where the prompt says <image>."""

    @classmethod
    def load(cls, checkpoint: CheckpointConfig, compute: ComputeConfig) -> Llava:
        from transformers import LlavaForConditionalGeneration, LlavaProcessor

        model, device = load_pretrained(LlavaForConditionalGeneration, checkpoint, compute)
        return cls(model, load_processor(LlavaProcessor, checkpoint), checkpoint, device)

    @property
    def decoder(self) -> Any:
        return self.model

    def image_tokens(self, pixels: torch.Tensor) -> torch.Tensor:
        import torch

        return torch.stack(list(self.model.get_image_features(pixels).pooler_output))

    @property
    def picture_tokens(self) -> int:
        vision = self.model.config.vision_config
        patches: int = (vision.image_size // vision.patch_size) ** 2
        # "default" leaves the class token out.
        return patches + int(self.model.config.vision_feature_select_strategy == "full")

    def prompt_tokens(self, prompts: Sequence[str], count: int) -> list[list[int]]:
        """Each image token of the prompt stands for all tokens of the picture."""
        image = self.processor.image_token
        expanded = [prompt.replace(image, image * count) for prompt in prompts]
        tokens: list[list[int]] = self.processor.tokenizer(expanded)["input_ids"]
        return tokens
