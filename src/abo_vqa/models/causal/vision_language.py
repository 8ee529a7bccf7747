"""A vision-language model of transformers: images, prompts, and its forward pass.

An image's vision output is computed once and handed to the library's own forward pass, which merges
it with the text and builds the masks that the architecture needs.

Shapes: B prompts of S tokens; N images of T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor

from abo_vqa.core.errors import UserError
from abo_vqa.models.causal.architectures import ARCHITECTURES, Architecture
from abo_vqa.models.causal.images import (
    PixelInputs,
    join_features,
    process_image,
    vision_features,
)
from abo_vqa.models.causal.positions import prompt_positions
from abo_vqa.models.causal.prefill import Prompt, Segment
from abo_vqa.models.causal.prompts import PromptBuilder
from abo_vqa.models.decoding import end_tokens_of
from abo_vqa.models.encoded import EncodedImage, ImageLayout
from abo_vqa.models.pixels import pixel_dtype
from abo_vqa.models.pretrained import PretrainedVQAModel

if TYPE_CHECKING:
    from PIL import Image
    from transformers import PreTrainedModel, ProcessorMixin
    from transformers.modeling_outputs import BaseModelOutputWithPooling

    from abo_vqa.core.config import CheckpointConfig


class VisionLanguageModel(PretrainedVQAModel):
    """A language model with an image's tokens in its prompt.

    Attributes:
        architecture: what is special about the model's type.
        attention: the attention implementation of transformers that the language model uses.
        image_token: the id of the image's placeholders.
        prompts: writes prompts and answers.
    """

    model_class: ClassVar[Any] = AutoModelForImageTextToText
    processor_class: ClassVar[Any] = AutoProcessor
    half_precision_base: ClassVar[bool] = True
    prompt_builder: ClassVar[type[PromptBuilder]] = PromptBuilder

    def __init__(
        self,
        model: PreTrainedModel,
        processor: ProcessorMixin,
        checkpoint: CheckpointConfig,
        device: torch.device,
    ) -> None:
        super().__init__(model, processor, checkpoint, device)
        self.architecture: Architecture = ARCHITECTURES[self.model.config.model_type]
        text = model.config.get_text_config()
        self.attention: str = text._attn_implementation
        self.image_token: int = self.model.config.image_token_id
        self.prompts = self.prompt_builder(
            self.processor, self.checkpoint.prompt, end_tokens_of(self.decoder)
        )
        self._placeholder: str = self.processor.tokenizer.convert_ids_to_tokens(self.image_token)

    def prepare_processor(self) -> None:
        """Refuse a prompt without a place for the image, or with several.

        Raises:
            UserError: the prompt in the settings, or the chat template, is such a one.
        """
        if problem := self.prompts.problem():
            raise UserError(f"{self.checkpoint.path}: {problem}.")

    @property
    def decoder(self) -> PreTrainedModel:
        """The model whose generation settings apply."""
        return self.model

    def preprocess(self, images: Sequence[Image.Image]) -> list[PixelInputs]:
        """Prepare each image by itself."""
        dtype = pixel_dtype(self.model)
        return [process_image(self.processor, image, dtype) for image in images]

    def encode(self, pixel_values: Sequence[PixelInputs]) -> list[EncodedImage]:
        """Run the vision part and the projection into the language model's space."""
        with torch.inference_mode():
            return self.encode_pixels(pixel_values)

    def encode_pixels(self, images: Sequence[PixelInputs]) -> list[EncodedImage]:
        """Run the vision part, with gradients where they are recorded.

        Args:
            images: the result of `preprocess`.
        """
        moved = [
            PixelInputs({k: v.to(self.device) for k, v in image.tensors.items()}, image.layout)
            for image in images
        ]
        counts = [image.layout.text.count(self._placeholder) for image in images]
        features = vision_features(self.model, moved, counts)
        return [
            EncodedImage(tokens, image.layout)
            for tokens, image in zip(features, images, strict=True)
        ]

    def split_encoded(self, encoded: EncodedImage) -> tuple[Tensor, str]:
        """Return an image's features [T, W] and its layout."""
        return encoded.features, encoded.layout.to_json()

    def join_encoded(self, matrices: Sequence[Tensor], texts: Sequence[str]) -> list[EncodedImage]:
        """Undo `split_encoded`."""
        return [
            EncodedImage(matrix, ImageLayout.from_json(text))
            for matrix, text in zip(matrices, texts, strict=True)
        ]

    def make_prompt(
        self, layout: ImageLayout, question: str, prompts: PromptBuilder | None = None
    ) -> Prompt:
        """Return a question about an image as the language model reads it.

        Args:
            layout: the image's.
            question: the question.
            prompts: writes the prompt; None: `self.prompts`.
        """
        ids = (prompts or self.prompts).tokenize(question, layout)
        text_start = len(ids) - ids[::-1].index(self.image_token)
        positions = prompt_positions(self.model, self.architecture, ids, layout.grid)
        return Prompt(ids, positions, text_start)

    def forward(self, segment: Segment) -> Any:
        """Run the language model, with the images' features at their placeholders.

        Args:
            segment: what it is given.

        Returns:
            The library's output, with `logits` and `past_key_values`.
        """
        ids = segment.ids.to(self.device)
        arguments: dict[str, Any] = {}
        if segment.images:
            arguments["mm_encoder_outputs"] = {"image": self.encoder_output(segment.images)}
        if segment.token_types is not None:
            arguments["token_type_ids"] = segment.token_types.to(self.device)
        elif self.architecture.token_types and segment.cache is None:
            arguments["token_type_ids"] = self.token_types(ids, torch.ones_like(ids))
        return self.model(
            input_ids=ids,
            attention_mask=segment.mask.to(self.device),
            position_ids=segment.positions.to(self.device),
            past_key_values=segment.cache,
            use_cache=segment.use_cache,
            logits_to_keep=segment.logits_to_keep,
            **arguments,
        )

    def token_types(self, ids: Tensor, is_prompt: Tensor) -> Tensor | None:
        """Return the token types that the architecture distinguishes, if any.

        Args:
            ids: [B, S] token ids.
            is_prompt: [B, S] nonzero where a token stands before the answer.

        Returns:
            [B, S], or None.
        """
        kind = self.architecture.token_types
        if kind == "image":
            return (ids == self.image_token).long()
        return 1 - is_prompt.long() if kind == "prompt" else None

    def encoder_output(self, images: Sequence[EncodedImage]) -> BaseModelOutputWithPooling:
        """Return images' features in the form that the library's forward pass takes.

        Args:
            images: N encoded images.
        """
        width: int = self.model.config.get_text_config().hidden_size
        features = [image.features.to(self.device) for image in images]
        return join_features(features, width, self.architecture)

    def make_mask(self, allowed: Tensor) -> Tensor:
        """Return a mask of the kind that the model's attention implementation takes.

        Args:
            allowed: [B, 1, S, L], True where a token attends to another.
        """
        if self.attention == "sdpa":
            return allowed
        device = self.device.type
        cast = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if cast else self.model.dtype
        blocked = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
        return blocked.masked_fill(~allowed, torch.finfo(dtype).min)
