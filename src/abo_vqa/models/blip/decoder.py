"""BLIP's answer decoder, one token at a time with a KV cache.

Its own loop, because transformers' `generate` ignores the padding of the questions, so that
answers would depend on the batch (`abo_vqa.models.blip.attention`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from abo_vqa.models.blip.attention import attention_block, padding_mask, project_keys_values

if TYPE_CHECKING:
    from transformers.models.blip.modeling_blip_text import BlipTextLMHeadModel


class AnswerDecoder:
    """A decode step: the last tokens [B, 1], from the start token on → the next logits [B, V].

    Args:
        decoder: BLIP's `text_decoder`.
        states: [B, L, W], the encoded questions.
        mask: [B, L], nonzero where they aren't padding; on the CPU, ideally.
    """

    def __init__(self, decoder: BlipTextLMHeadModel, states: Tensor, mask: Tensor) -> None:
        self._decoder = decoder
        self._layers = decoder.bert.encoder.layer
        self._question_mask = padding_mask(mask, states.device)
        self._question_cache = [
            project_keys_values(layer.crossattention, states) for layer in self._layers
        ]  # for each layer, keys and values [B, H, L, D]
        self._cache: list[tuple[Tensor, Tensor]] = []  # the same of the answer: [B, H, tokens, D]

    def __call__(self, input_ids: Tensor) -> Tensor:
        """Decode one token.

        Args:
            input_ids: [B, 1], the last token of each answer.

        Returns:
            Logits [B, vocabulary] of the next one.
        """
        past_length = self._cache[0][0].shape[2] if self._cache else 0
        hidden = self._decoder.bert.embeddings(
            input_ids=input_ids, past_key_values_length=past_length
        )  # [B, 1, W]
        cache = []
        for index, layer in enumerate(self._layers):
            keys, values = project_keys_values(layer.attention, hidden)  # [B, H, 1, D]
            if self._cache:
                keys = torch.cat([self._cache[index][0], keys], dim=2)
                values = torch.cat([self._cache[index][1], values], dim=2)
            cache.append((keys, values))
            hidden = attention_block(layer.attention, hidden, keys, values, None)
            hidden = attention_block(
                layer.crossattention, hidden, *self._question_cache[index], self._question_mask
            )
            hidden = layer.feed_forward_chunk(hidden)
        self._cache = cache
        logits: Tensor = self._decoder.cls(hidden)[:, -1]
        return logits
