"""Explanations of ViLT's answers.

ViLT reads words and patches as one sequence, and its classifier reads the state of the first token,
[CLS]. So where it looked is where that token attended, in all layers and heads alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from abo_vqa.models.explaining.explainer import Explainer
from abo_vqa.models.explaining.explanations import WHOLE_IMAGE, AttentionMaps, Likeliest
from abo_vqa.models.vilt import Vilt

if TYPE_CHECKING:
    from PIL.Image import Image

    from abo_vqa.models.answers import Answer

_METHOD = (
    "Self-attention of the token that the answer is read from, averaged over heads and layers; "
    "what it gives to words and special tokens isn't in the image."
)


class ViltExplainer(Explainer[Vilt]):
    """All answers of the classifier, and the attention of the token that it reads."""

    def likeliest(self, encoded: Sequence[Tensor], question: str, answer: Answer) -> Likeliest:
        """Return the classifier's most probable answers."""
        del answer
        choices = list(self.model.model.config.id2label.values())
        scores = self.model.score_choices(encoded, [0], [question], [choices])[0]
        return Likeliest.of(
            choices,
            torch.tensor(scores).exp().tolist(),
            f"The most probable of ViLT's {len(choices):,} answers. Each has a probability of its "
            "own of being right; they don't sum to 1.",
        )

    def attention(
        self, encoded: Sequence[Tensor], image: Image, question: str, answer: str
    ) -> AttentionMaps:
        """Average the attention of [CLS] over heads and layers."""
        pixels = self.model.preprocess([image])[0]
        patch = self.model.model.config.patch_size
        rows, columns = pixels.shape[-2] // patch, pixels.shape[-1] // patch
        weights = self._attention_of_first_token(encoded[0], question)
        patches = weights[len(weights) - rows * columns :]
        return AttentionMaps(
            (answer,),
            ("answer",),
            patches.reshape(1, rows, columns).numpy(),
            (1 - patches.sum())[None].numpy(),
            WHOLE_IMAGE,
            _METHOD,
        )

    def _attention_of_first_token(self, encoded: Tensor, question: str) -> Tensor:
        """Return [L + 1 + P], the mean attention to the L words, a class token and P patches."""
        tokens = self.model.processor.tokenizer([question], truncation=True, return_tensors="pt")
        patches = encoded[None].to(self.model.device)
        with torch.inference_mode():
            output: Any = self.model.model.vilt(
                **tokens.to(self.model.device),
                image_embeds=patches,
                pixel_mask=torch.ones(patches.shape[:2], dtype=torch.long, device=patches.device),
                output_attentions=True,
            )
        layers = torch.stack([layer[0, :, 0] for layer in output.attentions])  # [layers, H, S]
        return layers.double().mean((0, 1)).cpu()
