"""BLIP's text encoder and decoder with correct masks and with image keys and values shared.

Why not transformers' own forward pass: it drops the mask of the cross-attention, so that padding
changes answers and gradients, and it projects the image to keys and values again for each question,
which is most of a question's work (docs/benchmarks.md, "Baselines"). Here every mask is applied,
and an image is projected once for all its questions. The library's modules are called as they are,
so LoRA layers that PEFT has put in their place take part in training and inference.

Shapes: B questions of L tokens about N images of T tokens; A answer tokens; text width W, vision
width V, H heads of D = W / H dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

if TYPE_CHECKING:
    from transformers.models.blip.modeling_blip_text import (
        BlipTextAttention,
        BlipTextLayer,
        BlipTextLMHeadModel,
        BlipTextModel,
        BlipTextSelfAttention,
    )

CrossAttention = Callable[[nn.Module, Tensor, Tensor, Tensor, int], Tensor]
"""A function with the signature of `cross_attention`."""


def run_layer(
    run: Callable[[Any, Tensor], Tensor], layer: nn.Module, hidden: Tensor, *, checkpointing: bool
) -> Tensor:
    """Run a layer, and with gradient checkpointing keep nothing of it but its input.

    Args:
        run: computes the layer's output from the layer and its input.
        layer: the layer.
        hidden: its input.
        checkpointing: whether the layer is computed again in the backward pass, with the same
            random numbers.
    """
    if not (checkpointing and torch.is_grad_enabled()):
        return run(layer, hidden)
    out: Tensor = checkpoint(run, layer, hidden, use_reentrant=False)
    return out


def split_heads(states: Tensor, attention: BlipTextSelfAttention) -> Tensor:
    """Reshape [B, L, W] into [B, H, L, D]."""
    batch, length, width = states.shape
    count = attention.num_attention_heads
    return states.view(batch, length, count, width // count).transpose(1, 2)


def project_keys_values(attention: BlipTextAttention, states: Tensor) -> tuple[Tensor, Tensor]:
    """Project states to the keys and values of an attention layer.

    Args:
        attention: a self-attention or cross-attention layer.
        states: [B, L, W] or, for the cross-attention to images, [N, T, V].

    Returns:
        Keys and values, [B, H, L, D] each.
    """
    inner = attention.self
    return split_heads(inner.key(states), inner), split_heads(inner.value(states), inner)


def attention_block(
    attention: BlipTextAttention, hidden: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None
) -> Tensor:
    """Attend to keys and values, with the output projection, residual and norm.

    Args:
        attention: a self-attention or cross-attention layer.
        hidden: [B, L, W], the states of the queries.
        keys: [B, H, S, D].
        values: [B, H, S, D].
        mask: True where a query may attend, broadcastable to [B, H, L, S]; None: everywhere.

    Returns:
        [B, L, W].
    """
    inner = attention.self
    dropout = inner.dropout.p if inner.training else 0.0
    query = split_heads(inner.query(hidden), inner)  # [B, H, L, D]
    context = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask, dropout_p=dropout)
    out: Tensor = attention.output(context.transpose(1, 2).flatten(2), hidden)
    return out


def padding_mask(mask: Tensor, device: torch.device) -> Tensor | None:
    """Turn a tokenizer's mask into one for `attention_block`.

    Args:
        mask: [B, L], nonzero where tokens aren't padding. On the CPU, ideally: whether anything is
            padding decides what is run, and a GPU would have to be waited for.
        device: the device of the result.

    Returns:
        [B, 1, 1, L], or None if nothing is padding.
    """
    if bool(mask.all()):
        return None
    return mask.bool()[:, None, None, :].to(device, non_blocking=True)


def _questions_per_image(image_index: Tensor, images: int) -> int:
    """Return how many questions each image has, or 0 if the numbers or the order are irregular.

    Args:
        image_index: [B], each question's image; on the CPU, ideally, since it decides what is run.
        images: the number of images.
    """
    count, rest = divmod(len(image_index), images)
    if rest:
        return 0
    regular = torch.arange(images, device=image_index.device).repeat_interleave(count)
    return count if torch.equal(image_index, regular) else 0


def cross_attention(
    attention: BlipTextAttention, hidden: Tensor, images: Tensor, image_index: Tensor, count: int
) -> Tensor:
    """Attend from questions to their images, projecting each image once.

    An image's questions are concatenated into one long query: keys and values don't depend on the
    number of queries. If images have different numbers of questions, the query is padded.

    Args:
        attention: a cross-attention layer.
        hidden: [B, L, W], the states of the questions.
        images: [N, T, V], the vision tower's output.
        image_index: [B], each question's image.
        count: the result of `_questions_per_image`.

    Returns:
        [B, L, W].
    """
    keys, values = project_keys_values(attention, images)  # [N, H, T, D]
    length, width = hidden.shape[1:]
    if count:
        folded = hidden.reshape(len(images), count * length, width)  # [N, B/N * L, W]
        return attention_block(attention, folded, keys, values, None).reshape(hidden.shape)
    # [B], the number of earlier questions about the same image
    slot = (image_index[:, None] == image_index[None, :]).tril(-1).sum(1)
    padded = hidden.new_zeros(len(images), int(slot.max()) + 1, length, width)
    padded = padded.index_put((image_index, slot), hidden)  # [N, slots, L, W]
    attended = attention_block(attention, padded.flatten(1, 2), keys, values, None)
    return attended.view(padded.shape)[image_index, slot]


def encode_questions(
    encoder: BlipTextModel,
    input_ids: Tensor,
    mask: Tensor,
    images: Tensor,
    image_index: Tensor,
    attend_to_images: CrossAttention = cross_attention,
    *,
    checkpointing: bool = False,
) -> Tensor:
    """Run the text encoder over questions and their images.

    Args:
        encoder: BLIP's `text_encoder`.
        input_ids: [B, L], the questions' tokens.
        mask: [B, L], nonzero where they aren't padding; on the CPU, ideally.
        images: [N, T, V], the vision tower's output.
        image_index: [B], each question's image; on the CPU, ideally.
        attend_to_images: `cross_attention`, or for inference `absorbed.cheapest_cross_attention`.
        checkpointing: whether each layer is computed again in the backward pass.

    Returns:
        [B, L, W]; the states at padded positions are meaningless.
    """
    hidden: Tensor = encoder.embeddings(input_ids=input_ids)
    attention_mask = padding_mask(mask, input_ids.device)
    count = _questions_per_image(image_index, len(images))

    def run(layer: BlipTextLayer, hidden: Tensor) -> Tensor:
        keys, values = project_keys_values(layer.attention, hidden)
        hidden = attention_block(layer.attention, hidden, keys, values, attention_mask)
        hidden = attend_to_images(layer.crossattention, hidden, images, image_index, count)
        out: Tensor = layer.feed_forward_chunk(hidden)
        return out

    for layer in encoder.encoder.layer:
        hidden = run_layer(run, layer, hidden, checkpointing=checkpointing)
    return hidden


def answer_logits(
    decoder: BlipTextLMHeadModel,
    input_ids: Tensor,
    states: Tensor,
    mask: Tensor,
    *,
    checkpointing: bool = False,
) -> Tensor:
    """Run the answer decoder over whole answers (teacher forcing).

    Args:
        decoder: BLIP's `text_decoder`.
        input_ids: [B, A], the answers' tokens from the start token on. Padding comes last, where
            the causal mask keeps it from changing anything before it.
        states: [B, L, W], the result of `encode_questions`.
        mask: [B, L], nonzero where the questions aren't padding; on the CPU, ideally.
        checkpointing: whether each layer is computed again in the backward pass.

    Returns:
        Logits [B, A, vocabulary] of the token after each position.
    """
    hidden: Tensor = decoder.bert.embeddings(input_ids=input_ids)
    length = input_ids.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=input_ids.device).tril()
    question_mask = padding_mask(mask, input_ids.device)

    def run(layer: BlipTextLayer, hidden: Tensor) -> Tensor:
        keys, values = project_keys_values(layer.attention, hidden)
        hidden = attention_block(layer.attention, hidden, keys, values, causal)
        keys, values = project_keys_values(layer.crossattention, states)
        hidden = attention_block(layer.crossattention, hidden, keys, values, question_mask)
        out: Tensor = layer.feed_forward_chunk(hidden)
        return out

    for layer in decoder.bert.encoder.layer:
        hidden = run_layer(run, layer, hidden, checkpointing=checkpointing)
    logits: Tensor = decoder.cls(hidden)
    return logits
