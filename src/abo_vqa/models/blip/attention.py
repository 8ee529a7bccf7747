"""BLIP's text encoder and decoder over cached vision outputs, with the work shared and masks right.

transformers' own forward projects the picture's tokens to keys and values once a question, and
drops the mask of cross-attention, so that padding changes answers and gradients. Here a picture's
keys and values are computed once for all its questions, and every mask is applied. The library's
modules are called as they are, so LoRA layers that PEFT put in their place take part, in training
and in inference; nothing is patched.

Shapes: B questions of L tokens about P pictures of T tokens; A answer tokens; width W, H heads of
D = W / H; vocabulary V.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def heads(states: Tensor, module: Any) -> Tensor:
    """[N, S, W] → [N, H, S, D]"""
    rows, length, width = states.shape
    count = module.num_attention_heads
    return states.view(rows, length, count, width // count).transpose(1, 2)


def keys_and_values(attention: Any, states: Tensor) -> tuple[Tensor, Tensor]:
    """What an attention looks at: keys and values [N, H, S, D] of states [N, S, W]."""
    inner = attention.self
    return heads(inner.key(states), inner), heads(inner.value(states), inner)


def attend(
    attention: Any, hidden: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None
) -> Tensor:
    """One attention block with its residual: hidden [N, S, W], keys and values [N, H, R, D].

    Args:
        mask: what may be looked at, True, broadcastable to [N, H, S, R]; None: everything.
    """
    import torch.nn.functional as F

    inner = attention.self
    dropout = inner.dropout.p if inner.training else 0.0
    query = heads(inner.query(hidden), inner)  # [N, H, S, D]
    context = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask, dropout_p=dropout)
    out: Tensor = attention.output(context.transpose(1, 2).flatten(2), hidden)
    return out


def visible_tokens(mask: Tensor, device: Any) -> Tensor | None:
    """`attend`'s mask [B, 1, 1, L] on the device, or None where nothing is padding.

    Args:
        mask: [B, L] where tokens aren't padding, best on the CPU: it decides what is run.
    """
    if bool(mask.all()):
        return None
    return mask.bool()[:, None, None, :].to(device, non_blocking=True)


def _questions_a_picture(which: Tensor, pictures: int) -> int:
    """How many questions each picture has if all have equally many and they come in the pictures'
    order; else 0.

    Args:
        which: [B] each question's picture, best on the CPU: the answer decides what is run.
    """
    import torch

    count, rest = divmod(len(which), pictures)
    if rest:
        return 0
    regular = torch.arange(pictures, device=which.device).repeat_interleave(count)
    return count if torch.equal(which, regular) else 0


def look(attention: Any, hidden: Tensor, pictures: Tensor, which: Tensor, count: int) -> Tensor:
    """Cross-attention of B questions to their pictures, projected once a picture.

    A picture's questions become one long query, since what is looked at doesn't depend on how many
    look. Where pictures have different numbers of questions, there are empty seats in it.

    Args:
        count: see `_questions_a_picture`.
    """
    keys, values = keys_and_values(attention, pictures)  # [P, H, T, D]
    length, width = hidden.shape[1:]
    if count:
        folded = hidden.reshape(len(pictures), count * length, width)  # [P, B/P * L, W]
        return attend(attention, folded, keys, values, None).reshape(hidden.shape)
    seat = (which[:, None] == which[None, :]).tril(-1).sum(1)  # [B] earlier ones of the picture
    table = hidden.new_zeros(len(pictures), int(seat.max()) + 1, length, width)
    table = table.index_put((which, seat), hidden)
    seen = attend(attention, table.flatten(1, 2), keys, values, None)
    return seen.view(table.shape)[which, seat]


def read_questions(
    encoder: Any,
    ids: Tensor,
    mask: Tensor,
    pictures: Tensor,
    which: Tensor,
    look: Callable[..., Tensor] = look,
) -> Tensor:
    """The text encoder's states of questions about their pictures.

    Args:
        encoder: BLIP's text_encoder. ids, mask: [B, L] tokens and where they aren't padding.
        pictures: [P, T, W] vision outputs. which: [B] each question's picture. Where it and the
            mask are on the CPU, a GPU needn't be waited for.
        look: the cross-attention, here or in `blip_absorbed` (inference only).
    Returns:
        [B, L, W]; the states at padded positions mean nothing.
    """
    hidden: Tensor = encoder.embeddings(input_ids=ids)
    visible = visible_tokens(mask, ids.device)
    count = _questions_a_picture(which, len(pictures))
    for layer in encoder.encoder.layer:
        keys, values = keys_and_values(layer.attention, hidden)
        hidden = attend(layer.attention, hidden, keys, values, visible)
        hidden = look(layer.crossattention, hidden, pictures, which, count)
        hidden = layer.feed_forward_chunk(hidden)
    return hidden


def answer_logits(decoder: Any, ids: Tensor, states: Tensor, mask: Tensor) -> Tensor:
    """Logits [B, A, V] of each next answer token, given the ones before.

    Args:
        decoder: BLIP's text_decoder. ids: [B, A] answer tokens from the start token on; padding
            comes last, where causal attention keeps it from changing anything before it.
        states, mask: [B, L, W] question states and [B, L] where they aren't padding, best on the
            CPU.
    """
    import torch

    hidden: Tensor = decoder.bert.embeddings(input_ids=ids)
    length = ids.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=ids.device).tril()
    visible = visible_tokens(mask, ids.device)
    for layer in decoder.bert.encoder.layer:
        keys, values = keys_and_values(layer.attention, hidden)
        hidden = attend(layer.attention, hidden, keys, values, causal)
        keys, values = keys_and_values(layer.crossattention, states)
        hidden = attend(layer.crossattention, hidden, keys, values, visible)
        hidden = layer.feed_forward_chunk(hidden)
    logits: Tensor = decoder.cls(hidden)
    return logits
