"""The loss of the answers, with cross-attention shared among an image's questions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from abo_vqa.models.blip.attention import answer_logits, encode_questions
from abo_vqa.models.blip.vision import vision_forward
from abo_vqa.training.dataset import IGNORED

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import BlipForQuestionAnswering

    from abo_vqa.training.dataset import Batch


def vision_outputs(blip: BlipForQuestionAnswering, images: Tensor) -> Tensor:
    """Return vision outputs [P, T, W]: `images` themselves, or the tower's of pixels.

    Args:
        blip: the model.
        images: vision outputs [P, T, W] or pixels [P, 3, H, W].
    """
    if not torch.is_autocast_enabled(images.device.type):
        images = images.to(blip.dtype)  # they may be stored in half precision
    if images.ndim == 4:
        images = vision_forward(blip.vision_model, images)
    return images


def answer_loss(blip: BlipForQuestionAnswering, batch: Batch) -> Tensor:
    """Return the summed cross-entropy of the answers' tokens, end tokens included."""
    images = vision_outputs(blip, batch.images)
    states = encode_questions(
        blip.text_encoder, batch.questions, batch.mask, images, batch.image_index
    )  # [B, L, W]
    logits = answer_logits(blip.text_decoder, batch.inputs, states, batch.mask)  # [B, A, V]
    return F.cross_entropy(
        logits.flatten(0, 1).float(),
        batch.labels.flatten(),
        ignore_index=IGNORED,
        reduction="sum",
    )
