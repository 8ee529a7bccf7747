"""BLIP's answer decoder a token at a time: what was looked at and said is kept, not redone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from abo_vqa.models.blip.attention import attend, keys_and_values, visible_tokens

if TYPE_CHECKING:
    from torch import Tensor


class AnswerSteps:
    """The last tokens [B, 1], from the start token on → the next logits [B, V].

    Args:
        decoder: BLIP's text_decoder.
        states, mask: [B, L, W] question states, and [B, L] where they aren't padding, best on the
            CPU.
    """

    def __init__(self, decoder: Any, states: Tensor, mask: Tensor) -> None:
        self.decoder = decoder
        self.layers = decoder.bert.encoder.layer
        self.visible = visible_tokens(mask, states.device)
        self.question = [keys_and_values(layer.crossattention, states) for layer in self.layers]
        self.said: list[tuple[Tensor, Tensor]] = []  # a layer: keys and values [B, H, tokens, D]

    def __call__(self, ids: Tensor) -> Tensor:
        import torch

        count = self.said[0][0].shape[2] if self.said else 0
        hidden = self.decoder.bert.embeddings(input_ids=ids, past_key_values_length=count)
        said = []
        for at, layer in enumerate(self.layers):
            keys, values = keys_and_values(layer.attention, hidden)  # [B, H, 1, D]
            if self.said:
                keys = torch.cat([self.said[at][0], keys], dim=2)
                values = torch.cat([self.said[at][1], values], dim=2)
            said.append((keys, values))
            hidden = attend(layer.attention, hidden, keys, values, None)
            hidden = attend(layer.crossattention, hidden, *self.question[at], self.visible)
            hidden = layer.feed_forward_chunk(hidden)
        self.said = said
        logits: Tensor = self.decoder.cls(hidden)[:, -1]
        return logits
