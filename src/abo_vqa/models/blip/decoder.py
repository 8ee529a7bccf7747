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
        hidden = self._embed(input_ids)  # [B, 1, W]
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

    def continuations(self, rows: Tensor, input_ids: Tensor) -> Tensor:
        """Decode several continuations of what has been decoded so far, each as a whole.

        Args:
            rows: [P], which of the B answers each continues.
            input_ids: [P, A], their tokens. Padding comes last, where the causal mask keeps it from
                changing anything before it.

        Returns:
            Logits [P, A, vocabulary] of the token after each position.
        """
        hidden = self._embed(input_ids)  # [P, A, W]
        length, past = input_ids.shape[1], self._past_length
        causal = torch.ones(length, past + length, dtype=torch.bool, device=rows.device).tril(past)
        mask = None if self._question_mask is None else self._question_mask[rows]
        for layer, cache, question in zip(
            self._layers, self._cache, self._question_cache, strict=True
        ):
            own = project_keys_values(layer.attention, hidden)
            keys, values = (
                torch.cat([old[rows], new], dim=2) for old, new in zip(cache, own, strict=True)
            )  # [P, H, past + A, D]
            hidden = attention_block(layer.attention, hidden, keys, values, causal)
            keys, values = question[0][rows], question[1][rows]  # [P, H, L, D]
            hidden = attention_block(layer.crossattention, hidden, keys, values, mask)
            hidden = layer.feed_forward_chunk(hidden)
        logits: Tensor = self._decoder.cls(hidden)
        return logits

    @property
    def _past_length(self) -> int:
        """The number of tokens that have been decoded."""
        return self._cache[0][0].shape[2] if self._cache else 0

    def _embed(self, input_ids: Tensor) -> Tensor:
        """Embed tokens that follow those in the cache."""
        embedded: Tensor = self._decoder.bert.embeddings(
            input_ids=input_ids, past_key_values_length=self._past_length
        )
        return embedded
