"""BLIP's vision tower with the attention that torch fuses.

transformers' BLIP writes out every attention's scores, [P, H, T, T]: at 577 tokens a quarter of the
tower's time on a CPU goes into moving them. The layers here are the library's own modules, LoRA's
in their place included; only the product of queries, keys and values is torch's fused one, which
gives the same numbers up to rounding (`tests/models/test_blip.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def see(vision: Any, pixels: Tensor) -> Tensor:
    """The output of a `BlipVisionModel`: pixels [P, 3, S, S] → states [P, T, W]."""
    hidden = vision.embeddings(pixels)  # [P, T, W]
    for layer in vision.encoder.layers:
        hidden = hidden + _attend(layer.self_attn, layer.layer_norm1(hidden))
        hidden = hidden + layer.mlp(layer.layer_norm2(hidden))
    seen: Tensor = vision.post_layernorm(hidden)
    return seen


def _attend(attention: Any, hidden: Tensor) -> Tensor:
    """One `BlipAttention`: hidden [P, T, W] → [P, T, W]."""
    import torch.nn.functional as F

    pictures, tokens, width = hidden.shape
    mixed = attention.qkv(hidden).view(pictures, tokens, 3, attention.num_heads, -1)
    query, key, value = mixed.permute(2, 0, 3, 1, 4)  # each [P, H, T, D]
    dropout = attention.dropout.p if attention.training else 0.0
    context = F.scaled_dot_product_attention(
        query, key, value, dropout_p=dropout, scale=attention.scale
    )
    out: Tensor = attention.projection(context.transpose(1, 2).reshape(pictures, tokens, width))
    return out
