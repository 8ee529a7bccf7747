"""Explanations of LLaVA's answers.

A decoder-only model reads the image's tokens, the question and its own answer as one sequence, so
each token of the answer attends to the image directly.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from abo_vqa.models.causal.positions import prompt_positions
from abo_vqa.models.causal.prefill import Prompt, make_segment
from abo_vqa.models.explaining.explainer import Explainer
from abo_vqa.models.explaining.explanations import (
    WHOLE_IMAGE,
    AttentionMaps,
    TokenKind,
)
from abo_vqa.models.llava import Llava

if TYPE_CHECKING:
    from PIL.Image import Image

    from abo_vqa.models.encoded import EncodedImage

_METHOD = (
    "Self-attention of the position that each token of the answer is predicted from, averaged over "
    "heads and layers; what it gives to words isn't in the image."
)


class LlavaExplainer(Explainer[Llava]):
    """The attention of the answer's tokens to the image's."""

    no_attention: str = "Not available: this image's tokens aren't one grid, or there is no answer."

    def attention(
        self, encoded: Sequence[EncodedImage], image: Image, question: str, answer: str
    ) -> AttentionMaps | None:
        """Run prompt and answer once more, with the attention weights kept."""
        model = self.model
        prompt = model.make_prompt(encoded[0].layout, question)
        ids = model.processor.tokenizer(answer, add_special_tokens=False)["input_ids"]
        places = [i for i, token in enumerate(prompt.ids) if token == model.image_token]
        side = math.isqrt(len(places))
        if not ids or side * side != len(places) or model.architecture.token_types:
            return None
        whole = [*prompt.ids, *ids[:-1]]
        positions = prompt_positions(model.model, model.architecture, whole, encoded[0].layout.grid)
        weights = self._attention_weights(Prompt(whole, positions, 0), encoded[0], len(ids))
        kind: TokenKind = "answer"
        maps = weights[:, places]
        return AttentionMaps(
            tuple(model.processor.tokenizer.decode([token]).strip() for token in ids),
            (kind,) * len(ids),
            maps.reshape(-1, side, side).numpy(),
            (1 - maps.sum(1)).numpy(),
            processed_region(model.processor.image_processor, image),
            _METHOD,
        )

    def _attention_weights(self, prompt: Prompt, image: EncodedImage, count: int) -> Tensor:
        """Return the mean attention [count, S] of the prompt's last tokens to its S tokens."""
        layers: list[Tensor] = []

        def keep(module: Any, arguments: Any, output: tuple[Tensor, Tensor]) -> None:
            del module, arguments
            layers.append(output[1][0, :, -count:].double().mean(0).cpu())

        segment = make_segment([prompt], [image], self.model.image_token, torch.zeros(1, 0), None)
        with torch.inference_mode(), _eager_attention(self.model.model):
            decoder = self.model.model.get_decoder()
            hooks = [layer.self_attn.register_forward_hook(keep) for layer in decoder.layers]
            try:
                self.model.forward(segment)
            finally:
                for hook in hooks:
                    hook.remove()
        return torch.stack(layers).mean(0)


@contextmanager
def _eager_attention(model: Any) -> Iterator[None]:
    """Use the one implementation of attention that returns its weights."""
    before = model.config.get_text_config()._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def processed_region(processor: Any, image: Image) -> tuple[float, float, float, float]:
    """Return the part of an image that is left of it when it has been resized and cropped.

    Args:
        processor: an image processor of transformers.
        image: the image.

    Returns:
        Left, top, right and bottom in fractions of its width and height.
    """
    shortest = dict(processor.size).get("shortest_edge")
    if not (processor.do_center_crop and shortest):
        return WHOLE_IMAGE
    scale = shortest / min(image.size)
    crop = dict(processor.crop_size)
    wide = min(1.0, crop["width"] / (image.width * scale))
    high = min(1.0, crop["height"] / (image.height * scale))
    return (1 - wide) / 2, (1 - high) / 2, (1 + wide) / 2, (1 + high) / 2
