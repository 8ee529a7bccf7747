"""CLIP's text tower over many sentences with common prefixes, each prefix computed once.

The tower is causal and pools at the end token. So a sentence's feature depends on nothing after the
end token, and sentences are cut to their length (77 → 15 tokens); and the states of "Question: …
Answer:" are the same for every candidate, so they are kept as a KV cache (15 → 2 tokens per
candidate). open_clip has no KV cache; this one makes CLIP 37 times faster (docs/benchmarks.md,
"Baselines").

Shapes: B sentences of L tokens; Q prefixes of L tokens; C suffixes (candidates) of S tokens; width
W, H heads of D = W / H dimensions.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from abo_vqa.models.base import group_by_length

if TYPE_CHECKING:
    from open_clip.model import CLIP
    from open_clip.transformer import ResidualAttentionBlock

_KVCache = list[tuple[Tensor, Tensor]]
"""For each layer, keys and values [Q, H, L, D]."""
_Tokenizer = Callable[..., Tensor]
"""open_clip's: texts → token ids [texts, context length], padded on the right."""


class TextTower:
    """Text features of unit length, equal to `model.encode_text(tokenizer(texts), normalize=True)`.

    They are in float32 whatever dtype the tower computes in; see `normalize`.

    Args:
        model: an open_clip model; unless it has CLIP's own causal text transformer, it is called as
            it is.
        tokenizer: open_clip's tokenizer for it.
        max_tokens: maximum number of tokens in one forward pass. The default is large on a GPU; on
            a CPU it is small enough for the widest states to stay in its caches.
        causal: whether the text tower is CLIP's own; None: find out.

    Attributes:
        model: the open_clip model.
        tokenizer: its tokenizer.
        max_tokens: maximum number of tokens in one forward pass.
        causal: whether prefixes can be shared.
    """

    def __init__(
        self,
        model: CLIP,
        tokenizer: _Tokenizer,
        max_tokens: int = 0,
        causal: bool | None = None,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        on_cpu = next(model.parameters()).device.type == "cpu"
        self.max_tokens = max_tokens or (2048 if on_cpu else 16384)
        self.causal = _is_plain_causal(model) if causal is None else causal

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Compute features, each sentence cut to its length.

        Args:
            texts: B sentences.

        Returns:
            Unit features [B, embedding width].
        """
        tokens = self.tokenizer(list(texts)).to(next(self.model.parameters()).device)
        if not self.causal:
            return normalize(self.model.encode_text(tokens))
        ends = self._end_positions(tokens)
        features: dict[int, Tensor] = {}
        for group in group_by_length(ends):
            length = ends[group[0]] + 1
            for chunk in self._chunks(group, length):
                features |= zip(chunk, self._features(tokens[chunk, :length]), strict=True)
        return torch.stack([features[i] for i in range(len(texts))])

    def encode_pairs(
        self, prefixes: Sequence[str], suffixes: Sequence[str]
    ) -> Iterator[tuple[list[int], Tensor]]:
        """Compute features of every prefix followed by every suffix, a few prefixes at a time.

        Args:
            prefixes: beginnings of sentences, with the space before the candidate.
            suffixes: C ends of sentences.

        Yields:
            Positions of some prefixes, and their unit features [positions, C, embedding width].
        """
        prefix_ids, suffix_ids, unshareable = self.split_tokens(prefixes, suffixes)
        for i in unshareable:
            yield [i], self.encode([prefixes[i] + suffix for suffix in suffixes])[None]
        shareable = [i for i in range(len(prefixes)) if i not in unshareable]
        if not shareable:
            return
        device = self.model.positional_embedding.device
        chunks = [
            (chunk, torch.tensor([suffix_ids[i] for i in chunk], device=device))  # [chunk, S]
            for group in group_by_length([len(suffix) for suffix in suffix_ids])
            for chunk in self._chunks(group, len(suffix_ids[group[0]]))
        ]
        largest = max(suffix.numel() for _, suffix in chunks)
        for group in group_by_length([len(prefix_ids[i]) for i in shareable]):
            for part in self._chunks(group, largest):
                positions = [shareable[i] for i in part]
                cache = self._prefill(
                    torch.tensor([prefix_ids[i] for i in positions], device=device)
                )
                width = self.model.ln_final.weight.shape[0]
                states = cache[0][0].new_empty(len(positions), len(suffixes), width)  # [Q, C, W]
                for chunk, suffix in chunks:
                    states[:, chunk] = self._decode(suffix, cache)
                yield positions, self._project(states)

    def split_tokens(
        self, prefixes: Sequence[str], suffixes: Sequence[str]
    ) -> tuple[list[list[int]], list[list[int]], set[int]]:
        """Tokenize prefixes (with the start token) and suffixes (with the end token).

        A prefix can't be shared if it is too long, or if a sentence isn't tokenized like its two
        parts, which is checked on every prefix with one suffix and on one prefix with every suffix.

        Args:
            prefixes: beginnings of sentences.
            suffixes: ends of sentences.

        Returns:
            Token ids of the prefixes and of the suffixes, and the positions of the prefixes that
            have to be encoded together with each suffix.
        """
        everything = set(range(len(prefixes)))
        if not self.causal:
            return [], [], everything
        prefix_ids, _ = self._tokenize(prefixes)
        words, end = self._tokenize(suffixes)
        suffix_ids = [[*ids[1:], end] for ids in words]
        longest = self.model.context_length - max(map(len, suffix_ids))
        whole, _ = self._tokenize([prefix + suffixes[0] for prefix in prefixes])
        unshareable = {
            i
            for i, (prefix, ids) in enumerate(zip(prefix_ids, whole, strict=True))
            if len(prefix) > longest or prefix + suffix_ids[0] != [*ids, end]
        }
        one = min(everything - unshareable, default=None)
        if one is not None:
            whole, _ = self._tokenize([prefixes[one] + suffix for suffix in suffixes])
            if any(
                prefix_ids[one] + suffix != [*ids, end]
                for suffix, ids in zip(suffix_ids, whole, strict=True)
            ):
                unshareable = everything
        return prefix_ids, suffix_ids, unshareable

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Count each text's tokens before any truncation, including the start and end tokens."""
        if not texts:
            return []
        # No token is shorter than a byte.
        context_length = max(len(text.encode()) for text in texts) + 8
        tokens = self.tokenizer(list(texts), context_length=context_length)
        return [end + 1 for end in self._end_positions(tokens)]

    def _chunks(self, rows: list[int], tokens: int) -> list[list[int]]:
        """Cut rows of this many tokens each into chunks for one forward pass."""
        step = max(1, self.max_tokens // tokens)
        return [rows[i : i + step] for i in range(0, len(rows), step)]

    def _tokenize(self, texts: Sequence[str]) -> tuple[list[list[int]], int]:
        """Return each text's token ids before the end token, and the end token."""
        tokens = self.tokenizer(list(texts))
        ends = self._end_positions(tokens)
        end_token = int(tokens[0, ends[0]])
        return [row[:end] for row, end in zip(tokens.tolist(), ends, strict=True)], end_token

    def _end_positions(self, tokens: Tensor) -> list[int]:
        """Return the position of the end token in each row of [B, context length]."""
        if self.model.text_pool_type == "eos":
            scores = (tokens == self.model.text_eos_id).int()
        else:  # "argmax": the end token has the highest id
            scores = tokens
        positions: list[int] = scores.argmax(-1).tolist()
        return positions

    def _features(self, tokens: Tensor) -> Tensor:
        """Compute unit features of rows [B, L] whose last token is the end token."""
        model = self.model
        length = tokens.shape[1]
        x = model.token_embedding(tokens) + model.positional_embedding[:length]  # [B, L, W]
        x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
        return self._project(x[:, -1])

    def _project(self, states: Tensor) -> Tensor:
        """Project states at the end token [..., W] to unit features [..., embedding width]."""
        return normalize(self.model.ln_final(states) @ self.model.text_projection)

    def _prefill(self, tokens: Tensor) -> _KVCache:
        """Run Q prefixes [Q, L] through the tower and return their KV cache."""
        length = tokens.shape[1]
        x = self.model.token_embedding(tokens) + self.model.positional_embedding[:length]
        cache = []
        for block in self.model.transformer.resblocks:
            query, key, value = (part.transpose(1, 2) for part in _qkv(block, x))  # [Q, H, L, D]
            cache.append((key, value))
            context = F.scaled_dot_product_attention(query, key, value, is_causal=True)
            x = _finish_block(block, x, context.transpose(1, 2).flatten(-2))  # [Q, L, W]
        return cache

    def _decode(self, tokens: Tensor, cache: _KVCache) -> Tensor:
        """Run C suffixes after each of Q prefixes.

        Args:
            tokens: [C, S], the suffixes' tokens, the end token last.
            cache: the prefixes' keys and values, from `_prefill`.

        Returns:
            The last layer's states at the end tokens, [Q, C, W].
        """
        prefixes, _, length, _ = cache[0][0].shape
        steps = tokens.shape[1]
        positions = slice(length, length + steps)
        x = self.model.token_embedding(tokens) + self.model.positional_embedding[positions]
        x = x[None]  # [1, C, S, W]: before the first layer there is no trace of the prefixes
        causal_mask = self.model.attn_mask[:steps, :steps]
        blocks = self.model.transformer.resblocks
        for block, (past_key, past_value) in zip(blocks, cache, strict=True):
            # Of the last layer's states only the one at the end token is used.
            rows = slice(-1, None) if block is blocks[-1] else slice(None)
            query, key, value = (part.permute(0, 3, 1, 2, 4) for part in _qkv(block, x, rows))
            query = query * query.shape[-1] ** -0.5  # [Q, H, C, S, D]
            shape = (prefixes, *query.shape[1:])
            past_scores = query.flatten(2, 3) @ past_key.transpose(-1, -2)  # [Q, H, C * S, L]
            scores = query @ key.transpose(-1, -2) + causal_mask[rows]  # [Q, H, C, S, S]
            scores = scores.expand(*shape[:-1], steps)
            weights = torch.cat([past_scores.view(*shape[:-1], length), scores], dim=-1).softmax(-1)
            context = (weights[..., :length].flatten(2, 3) @ past_value).view(shape)
            context = context + weights[..., length:] @ value  # [Q, H, C, S, D]
            x = _finish_block(block, x[:, :, rows], context.permute(0, 2, 3, 1, 4).flatten(-2))
        last: Tensor = x[:, :, -1]
        return last


def normalize(features: Tensor) -> Tensor:
    """Scale features [..., width] to unit length in float32.

    Half precision would change their direction, and similarities differ in the third digit.
    """
    return F.normalize(features.float(), dim=-1)


def _is_plain_causal(model: nn.Module) -> bool:
    """Whether the text tower is CLIP's own: causal, pooled at the end token, ordinary blocks."""
    if "open_clip" not in sys.modules:  # then the model is another library's
        return False
    from open_clip.model import CLIP
    from open_clip.transformer import ResidualAttentionBlock

    return (
        isinstance(model, CLIP)
        and model.attn_mask is not None
        and model.text_pool_type in ("argmax", "eos")
        and isinstance(model.text_projection, nn.Parameter)
        and all(type(b) is ResidualAttentionBlock for b in model.transformer.resblocks)
    )


def _qkv(block: ResidualAttentionBlock, x: Tensor, rows: slice = slice(None)) -> tuple[Tensor, ...]:
    """Project states to a block's queries, keys and values.

    Args:
        block: one layer of the tower.
        x: [..., S, W].
        rows: the positions whose queries are needed.

    Returns:
        Queries [..., rows, H, D], keys and values [..., S, H, D].
    """
    attention = block.attn
    weight, bias, width = attention.in_proj_weight, attention.in_proj_bias, x.shape[-1]
    x = block.ln_1(x)
    if rows == slice(None):
        parts = F.linear(x, weight, bias).chunk(3, dim=-1)
    else:
        query = F.linear(x[..., rows, :], weight[:width], bias[:width])
        parts = (query, *F.linear(x, weight[width:], bias[width:]).chunk(2, dim=-1))
    heads = attention.num_heads
    return tuple(part.reshape(*part.shape[:-1], heads, -1) for part in parts)


def _finish_block(block: ResidualAttentionBlock, x: Tensor, context: Tensor) -> Tensor:
    """Apply what follows attention in a block: output projection, residuals and the MLP.

    Args:
        block: one layer of the tower.
        x: [..., W], the block's input.
        context: [..., W], the values after attention.
    """
    x = x + block.ls_1(block.attn.out_proj(context))
    out: Tensor = x + block.ls_2(block.mlp(block.ln_2(x)))
    return out
