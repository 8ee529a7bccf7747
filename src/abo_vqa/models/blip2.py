"""BLIP-2 with a decoder-only language model (Li et al., 2023, arXiv:2301.12597)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from transformers import Blip2ForConditionalGeneration, Blip2Processor

from abo_vqa.core.errors import UserError
from abo_vqa.models.causal.images import PixelInputs
from abo_vqa.models.causal.model import CausalVQAModel
from abo_vqa.models.causal.prefill import Segment
from abo_vqa.models.causal.prompts import PromptBuilder
from abo_vqa.models.encoded import ImageLayout
from abo_vqa.models.pixels import pixel_dtype, process_images

if TYPE_CHECKING:
    from PIL.Image import Image
    from transformers import PreTrainedModel, ProcessorMixin

    from abo_vqa.core.config import CheckpointConfig
    from abo_vqa.models.pretrained import PretrainedVQAModel


class _Blip2PromptBuilder(PromptBuilder):
    """Prompts after the image's placeholders, which precede even the start token."""

    def write(self, question: str) -> str:
        """Return the prompt."""
        return str(self.processor.image_token) + self.prompt.replace("{question}", question)

    def tokenize(self, question: str, layout: ImageLayout) -> list[int]:
        """Return a prompt's token ids after those of the image."""
        text = self.prompt.replace("{question}", question)
        image: list[int] = self.tokenizer(layout.text, add_special_tokens=False)["input_ids"]
        return image + list(self.tokenizer(text)["input_ids"])


class Blip2(CausalVQAModel):
    """A ViT, the Q-Former, and its 32 tokens in front of a prompt for OPT."""

    model_class: ClassVar[Any] = Blip2ForConditionalGeneration
    processor_class: ClassVar[Any] = Blip2Processor
    prompt_builder: ClassVar[type[PromptBuilder]] = _Blip2PromptBuilder

    def prepare_processor(self) -> None:
        """Refuse a tokenizer that leaves out the start token which the language model expects.

        Nothing would fail: the model would give worse answers to prompts unlike those of its
        training.

        Raises:
            UserError: the token after the image's isn't the start token, or the prompt in the
                settings has an image token.
        """
        super().prepare_processor()
        start = self.decoder.config.bos_token_id
        count = int(self.model.config.num_query_tokens)
        prompt = self.prompts.tokenize("a question", self._layout)
        actual = prompt[count]
        if start is not None and actual != start:
            tokenizer = self.processor.tokenizer
            expected, token = tokenizer.convert_ids_to_tokens([start, actual])
            raise UserError(
                f"{self.checkpoint.path}: after the image's {count} tokens a "
                f"prompt has to continue with {expected!r}, and with its tokenizer it continues "
                f"with {token!r}. The post_processor of its tokenizer.json should put the start "
                "token there (`add_bos_token` in tokenizer_config.json is no longer read): use the "
                "file of the pinned revision."
            )

    @classmethod
    def class_for(
        cls, model: PreTrainedModel, processor: ProcessorMixin, checkpoint: CheckpointConfig
    ) -> type[PretrainedVQAModel]:
        """Refuse a language model that encodes the prompt, as FLAN-T5 does.

        Raises:
            UserError: it isn't decoder-only.
        """
        del processor
        if model.config.text_config.is_encoder_decoder:
            raise UserError(
                f"{checkpoint.path}: its language model is {model.config.text_config.model_type}, "
                "an encoder and a decoder. BLIP-2 is supported with a decoder-only one, such as "
                "OPT: Salesforce/blip2-opt-2.7b."
            )
        return cls

    @property
    def _layout(self) -> ImageLayout:
        """The layout of every image: a placeholder for each of the Q-Former's queries."""
        token = self.processor.tokenizer.convert_ids_to_tokens(self.image_token)
        return ImageLayout(token * int(self.model.config.num_query_tokens))

    @property
    def decoder(self) -> PreTrainedModel:
        """The language model."""
        return self.model.language_model

    def preprocess(self, images: Sequence[Image]) -> list[PixelInputs]:
        """Prepare each image by itself; the processor doesn't say how long an image is."""
        pixels = process_images(self.processor, images, pixel_dtype(self.model))
        return [PixelInputs({"pixel_values": row[None]}, self._layout) for row in pixels]

    def forward(self, segment: Segment) -> Any:
        """Run the language model alone: the library's forward pass wants an image at each step."""
        ids = segment.ids.to(self.device)
        embeds = self.decoder.get_input_embeddings()(ids)  # [B, S, W]
        if segment.images:
            features = torch.cat([image.features for image in segment.images]).to(embeds)
            placeholders = (ids == self.image_token)[..., None].to(embeds.device)
            embeds = embeds.masked_scatter(placeholders, features)
        return self.decoder(
            inputs_embeds=embeds,
            attention_mask=segment.mask.to(embeds.device),
            position_ids=segment.positions.to(embeds.device),
            past_key_values=segment.cache,
            use_cache=segment.use_cache,
            logits_to_keep=segment.logits_to_keep,
        )
