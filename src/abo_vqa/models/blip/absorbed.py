"""Cross-attention with the projections of keys and values absorbed into the queries.

A question has about 10 tokens and an image 577, so projecting the image to keys and values is
nearly all the work of encoding a question. With W_k and W_v the projections of one head and X the
image's states,

    scores = q (X W_k)ᵀ = (q W_kᵀ) Xᵀ        output = P (X W_v) = (P X) W_v

which is the same sum in another order: exact up to rounding, in inference (dropout would act on
pooled vectors). The bias of the keys adds a constant to all scores of a query, which cancels in the
softmax. What this saves is in docs/benchmarks.md, "Baselines".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from abo_vqa.models.blip.attention import cross_attention, split_heads

if TYPE_CHECKING:
    from transformers.models.blip.modeling_blip_text import BlipTextAttention


def cheapest_cross_attention(
    attention: BlipTextAttention, hidden: Tensor, images: Tensor, image_index: Tensor, count: int
) -> Tensor:
    """Compute `cross_attention` in whichever order of the sums takes fewer operations.

    Layers other than `nn.Linear` (quantised, or with an unmerged LoRA adapter) have no weight that
    could be absorbed; they are left to `cross_attention`.

    Args:
        attention: a cross-attention layer.
        hidden: [B, L, W], the states of the questions.
        images: [N, T, V], the vision tower's output.
        image_index: [B], each question's image.
        count: questions per image, 0 if irregular; see `cross_attention`.

    Returns:
        [B, L, W].
    """
    projections = (attention.self.key, attention.self.value)
    if not count or any(type(layer) is not nn.Linear for layer in projections):
        return cross_attention(attention, hidden, images, image_index, count)
    queries = count * hidden.shape[1]  # per image
    tokens, vision_width = images.shape[1:]
    width = hidden.shape[2]
    # Multiplications per image in either order, leaving out what both have in common.
    projected = tokens * vision_width * width + queries * tokens * width
    num_heads = attention.self.num_attention_heads
    absorbed = queries * num_heads * tokens * vision_width + queries * vision_width * width
    if projected <= absorbed:
        return cross_attention(attention, hidden, images, image_index, count)
    return absorbed_cross_attention(attention, hidden, images, count)


def absorbed_cross_attention(
    attention: BlipTextAttention, hidden: Tensor, images: Tensor, count: int
) -> Tensor:
    """Attend from `count` consecutive questions per image without projecting the images.

    Args:
        attention: a cross-attention layer of plain linear layers.
        hidden: [B, L, W], the states of the questions, B = N * count.
        images: [N, T, V], the vision tower's output.
        count: questions per image.

    Returns:
        [B, L, W].
    """
    inner = attention.self
    num_heads, head_dim = inner.num_attention_heads, inner.attention_head_size
    folded = hidden.reshape(len(images), count * hidden.shape[1], -1)  # [N, Q, W], Q = count * L
    query = split_heads(inner.query(folded), inner) * head_dim**-0.5  # [N, H, Q, D]
    key_weight = inner.key.weight.view(num_heads, head_dim, -1)  # [H, D, V]
    absorbed = (query @ key_weight).flatten(1, 2)  # [N, H * Q, V]
    weights = (absorbed @ images.transpose(1, 2)).softmax(-1)  # [N, H * Q, T]
    pooled = (weights @ images).unflatten(1, (num_heads, -1))  # [N, H, Q, V]
    value_weight = inner.value.weight.view(num_heads, head_dim, -1)  # [H, D, V]
    context = (pooled @ value_weight.transpose(1, 2)).transpose(1, 2).flatten(2)  # [N, Q, W]
    out: Tensor = attention.output(context + inner.value.bias, folded)
    return out.view_as(hidden)
