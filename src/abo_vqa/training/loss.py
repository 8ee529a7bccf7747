"""The answer's loss, over shared and masked cross-attention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from abo_vqa.models.blip.attention import answer_logits, encode_questions
from abo_vqa.training.batches import IGNORED, Batch

if TYPE_CHECKING:
    from torch import Tensor


def seen(blip: Any, pictures: Tensor) -> Tensor:
    """Vision outputs [P, T, W]: `pictures` themselves, or the tower's of pixels [P, 3, H, W]."""
    import torch

    if not torch.is_autocast_enabled(pictures.device.type):
        pictures = pictures.to(blip.dtype)  # they may be kept in half precision
    if pictures.ndim == 4:
        pictures = blip.vision_model(pictures).last_hidden_state
    return pictures


def summed_loss(blip: Any, batch: Batch) -> Tensor:
    """Cross-entropy of the answers' tokens, the end token among them, summed; pads left out."""
    import torch.nn.functional as F

    pictures = seen(blip, batch.pictures)
    states = encode_questions(blip.text_encoder, batch.questions, batch.mask, pictures, batch.which)
    logits = answer_logits(blip.text_decoder, batch.inputs, states, batch.mask)  # [B, A, V]
    return F.cross_entropy(
        logits.flatten(0, 1).float(), batch.labels.flatten(),
        ignore_index=IGNORED, reduction="sum",
    )  # fmt: skip
