"""Cross-attention to a picture without projecting it: the projections act on the few queries.

A question has about 10 tokens and a picture 577, so projecting the picture to keys and values is
nearly all the work of reading a question. With W_k and W_v the projections of one head,

    scores = q (I W_k)ᵀ = (q W_kᵀ) Iᵀ        output = P (I W_v) = (P I) W_v

which is the same sum in another order (exact up to rounding, for inference: dropout would act on
pooled vectors). A constant added to all scores of a query cancels in the softmax, so the bias of
the keys plays no part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from abo_vqa.models.blip.attention import heads, look

if TYPE_CHECKING:
    from torch import Tensor


def look_cheaply(
    attention: Any, hidden: Tensor, pictures: Tensor, which: Tensor, count: int
) -> Tensor:
    """`look` in whichever order of the sums takes fewer operations.

    Layers that aren't plain ones (LoRA not merged, quantised) have no weight to absorb: `look`.

    Args:
        hidden: [B, L, W]; pictures: [P, T, V]; which: [B]. count: see `questions_a_picture`.
    """
    import torch

    projections = (attention.self.key, attention.self.value)
    if not count or any(type(layer) is not torch.nn.Linear for layer in projections):
        return look(attention, hidden, pictures, which, count)
    queries = count * hidden.shape[1]  # a picture's
    tokens, wide = pictures.shape[1:]
    width = hidden.shape[2]
    # Multiplications a picture, both ways; what they have in common is left out.
    projected = tokens * wide * width + queries * tokens * width
    number = attention.self.num_attention_heads
    absorbed = queries * number * tokens * wide + queries * width * wide
    if projected <= absorbed:
        return look(attention, hidden, pictures, which, count)
    return look_absorbed(attention, hidden, pictures, count)


def look_absorbed(attention: Any, hidden: Tensor, pictures: Tensor, count: int) -> Tensor:
    """Cross-attention of `count` consecutive questions a picture: [B, L, W] → [B, L, W]."""
    inner = attention.self
    number, depth = inner.num_attention_heads, inner.attention_head_size
    folded = hidden.reshape(len(pictures), count * hidden.shape[1], -1)  # [P, R, W]
    query = heads(inner.query(folded), inner) * depth**-0.5  # [P, H, R, D]
    key = inner.key.weight.view(number, depth, -1)  # [H, D, V]
    absorbed = (query @ key).flatten(1, 2)  # [P, H*R, V]
    weights = (absorbed @ pictures.transpose(1, 2)).softmax(-1)  # [P, H*R, T]
    pooled = (weights @ pictures).unflatten(1, (number, -1))  # [P, H, R, V]
    value = inner.value.weight.view(number, depth, -1)
    context = (pooled @ value.transpose(1, 2)).transpose(1, 2).flatten(2)  # [P, R, W]
    out: Tensor = attention.output(context + inner.value.bias, folded)
    return out.view_as(hidden)
