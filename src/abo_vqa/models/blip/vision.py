"""BLIP's vision tower with torch's fused attention.

transformers' BLIP materialises the scores of every attention, [N, H, T, T]: at 577 tokens, moving
them takes a quarter of the tower's time on a CPU (docs/benchmarks.md, "Baselines"). The layers here
are the library's own modules, LoRA layers included; only the product of queries, keys and values is
torch's fused one, which is equal up to rounding (`tests/models/test_blip.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor

from abo_vqa.models.blip.attention import run_layer

if TYPE_CHECKING:
    from transformers.models.blip.modeling_blip import (
        BlipAttention,
        BlipEncoderLayer,
        BlipVisionModel,
    )


def vision_forward(
    vision: BlipVisionModel, pixel_values: Tensor, *, checkpointing: bool = False
) -> Tensor:
    """Run the vision tower.

    Args:
        vision: BLIP's `vision_model`.
        pixel_values: [N, 3, side, side].
        checkpointing: whether each layer is computed again in the backward pass.

    Returns:
        The last hidden states [N, T, V].
    """
    hidden = vision.embeddings(pixel_values)  # [N, T, V]
    for layer in vision.encoder.layers:
        hidden = run_layer(_layer, layer, hidden, checkpointing=checkpointing)
    states: Tensor = vision.post_layernorm(hidden)
    return states


def _layer(layer: BlipEncoderLayer, hidden: Tensor) -> Tensor:
    """Run one layer: [N, T, V] → [N, T, V]."""
    hidden = hidden + _self_attention(layer.self_attn, layer.layer_norm1(hidden))
    out: Tensor = hidden + layer.mlp(layer.layer_norm2(hidden))
    return out


def _self_attention(attention: BlipAttention, hidden: Tensor) -> Tensor:
    """Run one attention layer: [N, T, V] → [N, T, V]."""
    images, tokens, width = hidden.shape
    qkv = attention.qkv(hidden).view(images, tokens, 3, attention.num_heads, -1)
    query, key, value = qkv.permute(2, 0, 3, 1, 4)  # [N, H, T, D] each
    dropout = attention.dropout.p if attention.training else 0.0
    context = F.scaled_dot_product_attention(
        query, key, value, dropout_p=dropout, scale=attention.scale
    )
    out: Tensor = attention.projection(context.transpose(1, 2).reshape(images, tokens, width))
    return out
