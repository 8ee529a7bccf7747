"""BLIP-2 with a decoder-only language model (Li et al., 2023, arXiv:2301.12597)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from abo_vqa.core.errors import UserError
from abo_vqa.models.causal import ImagePrompted
from abo_vqa.models.loading import load_pretrained, load_processor

if TYPE_CHECKING:
    import torch

    from abo_vqa.config import CheckpointConfig, ComputeConfig


class Blip2(ImagePrompted):
    """ViT → Q-Former → 32 tokens in front of an OPT prompt."""

    @classmethod
    def load(cls, checkpoint: CheckpointConfig, compute: ComputeConfig) -> Blip2:
        from transformers import Blip2ForConditionalGeneration, Blip2Processor

        model, device = load_pretrained(Blip2ForConditionalGeneration, checkpoint, compute)
        loaded = cls(model, load_processor(Blip2Processor, checkpoint), checkpoint, device)
        loaded.require_start()
        return loaded

    def require_start(self) -> None:
        """Refuse a tokenizer that leaves out the start token which the language model expects.

        Nothing would fail: the model would answer, worse, to prompts unlike those it knows.

        Raises:
            UserError: see above.
        """
        start = self.decoder.config.bos_token_id
        prompt = self.prompt_tokens(["a question"], self.picture_tokens)[0]
        found = prompt[self.picture_tokens]
        if start is not None and found != start:
            wanted, got = self.processor.tokenizer.convert_ids_to_tokens([start, found])
            raise UserError(
                f"{self.checkpoint.path}: behind the picture's {self.picture_tokens} tokens a "
                f"prompt has to go on with {wanted!r}, and its tokenizer makes it go on with "
                f"{got!r}. The post_processor of its tokenizer.json should put the start token "
                "there (`add_bos_token` in tokenizer_config.json is no longer read): use the "
                "file of the pinned revision."
            )

    @property
    def decoder(self) -> Any:
        return self.model.language_model

    def image_tokens(self, pixels: torch.Tensor) -> torch.Tensor:
        tokens: torch.Tensor = self.model.get_image_features(pixels).pooler_output
        return tokens

    @property
    def picture_tokens(self) -> int:
        return int(self.model.config.num_query_tokens)

    def prompt_tokens(self, prompts: Sequence[str], count: int) -> list[list[int]]:
        """The image comes first, even before the start token."""
        image = [self.model.config.image_token_id] * count
        words = self.processor.tokenizer(list(prompts))["input_ids"]
        return [image + ids for ids in words]
