"""CLIP's text tower over sentences that start alike: cut to length, the common start read once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from abo_vqa.models.base import by_length

if TYPE_CHECKING:
    import torch


class TextTower:
    """Unit text features, equal to `model.encode_text(tokenizer(texts), normalize=True)`.

    The tower is causal and pools at the end token: what follows the end token has no effect.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model = model
        self.tokenizer = tokenizer

    def encode(self, texts: Sequence[str]) -> torch.Tensor:
        """Features of unit length: [texts, width]."""
        import torch

        tokens = self.tokenizer(list(texts))
        ends = self.ends(tokens)
        features: list[Any] = [None] * len(texts)
        for group in by_length(ends):
            cut = tokens[group, : ends[group[0]] + 1].to(self.model.positional_embedding.device)
            for i, feature in zip(group, self.features(cut), strict=True):
                features[i] = feature
        return torch.stack(features)

    def ends(self, tokens: torch.Tensor) -> list[int]:
        """Position of each row's end token."""
        if self.model.text_pool_type == "eos":
            found = (tokens == self.model.text_eos_id).int()
        else:  # "argmax": the end token has the highest id
            found = tokens
        ends: list[int] = found.argmax(-1).tolist()
        return ends

    def features(self, tokens: torch.Tensor) -> torch.Tensor:
        """Unit features of rows that end at their last token [B, L]: [B, width]."""
        import torch

        model = self.model
        length = tokens.shape[1]
        x = model.token_embedding(tokens) + model.positional_embedding[:length]
        x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
        x = model.ln_final(x[:, -1]) @ model.text_projection  # [B, width]
        return torch.nn.functional.normalize(x, dim=-1)
