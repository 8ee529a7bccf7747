"""BLIP-2 with a decoder-only language model (Li et al., 2023, arXiv:2301.12597)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from transformers import Blip2ForConditionalGeneration, Blip2Processor

from abo_vqa.core.errors import UserError
from abo_vqa.models.causal import CausalVQAModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Blip2(CausalVQAModel):
    """A ViT, the Q-Former, and its 32 tokens in front of a prompt for OPT."""

    model_class: ClassVar[Any] = Blip2ForConditionalGeneration
    processor_class: ClassVar[Any] = Blip2Processor

    def prepare_processor(self) -> None:
        """Refuse a tokenizer that leaves out the start token which the language model expects.

        Nothing would fail: the model would give worse answers to prompts unlike those of its
        training.

        Raises:
            UserError: the token after the image's isn't the start token.
        """
        start = self.decoder.config.bos_token_id
        prompt = self.tokenize_prompts(["a question"], self.num_image_tokens)[0]
        actual = prompt[self.num_image_tokens]
        if start is not None and actual != start:
            tokenizer = self.processor.tokenizer
            expected, token = tokenizer.convert_ids_to_tokens([start, actual])
            raise UserError(
                f"{self.checkpoint.path}: after the image's {self.num_image_tokens} tokens a "
                f"prompt has to continue with {expected!r}, and with its tokenizer it continues "
                f"with {token!r}. The post_processor of its tokenizer.json should put the start "
                "token there (`add_bos_token` in tokenizer_config.json is no longer read): use the "
                "file of the pinned revision."
            )

    @property
    def decoder(self) -> PreTrainedModel:
        """The language model."""
        return self.model.language_model

    @property
    def num_image_tokens(self) -> int:
        """The number of the Q-Former's queries."""
        return int(self.model.config.num_query_tokens)

    def image_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Return the projected queries [N, T, W] for pixel values [N, 3, side, side]."""
        tokens: torch.Tensor = self.model.get_image_features(pixel_values).pooler_output
        return tokens

    def tokenize_prompts(self, prompts: Sequence[str], num_image_tokens: int) -> list[list[int]]:
        """Tokenize prompts after the image's placeholders, which precede even the start token."""
        placeholders = [self.model.config.image_token_id] * num_image_tokens
        tokens = self.processor.tokenizer(list(prompts))["input_ids"]
        return [placeholders + ids for ids in tokens]
