"""CLIP's text tower over many sentences that start alike: the common start is read once.

The tower is causal and pools at the end token, so a sentence's feature depends on nothing behind
the end token (cut to length: 77 → 15 tokens), and the states of "Question: … Answer:" are the same
for every candidate (read once: 15 → 2 tokens a candidate).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from abo_vqa.models.base import by_length

if TYPE_CHECKING:
    import torch

_KeysValues = list[tuple["torch.Tensor", "torch.Tensor"]]


class TextTower:
    """Unit text features, equal to `model.encode_text(tokenizer(texts), normalize=True)`.

    They are float32 whatever the tower computes in, see `unit`.

    Args:
        model: an open_clip model; the short cuts need its plain causal text transformer, and any
            other is called as it is.
        tokenizer: open_clip's tokenizer for it.
        room: tokens at most in one pass; by default many on a GPU, and on a CPU as few as its
            caches hold, since the layers' widest states would travel to memory and back.
        causal: whether it is a plain causal text transformer; None: look.
    """

    def __init__(
        self, model: Any, tokenizer: Any, room: int = 0, causal: bool | None = None
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        on_cpu = next(model.parameters()).device.type == "cpu"
        self.room = room or (2048 if on_cpu else 16384)
        self.causal = _is_plain_causal(model) if causal is None else causal

    def encode(self, texts: Sequence[str]) -> torch.Tensor:
        """Features of unit length, each sentence cut to its length: [texts, width]."""
        import torch

        tokens = self.tokenizer(list(texts)).to(next(self.model.parameters()).device)
        if not self.causal:
            return unit(self.model.encode_text(tokens))
        ends = self.ends(tokens)
        found: list[Any] = [None] * len(texts)
        for group in by_length(ends):
            length = ends[group[0]] + 1
            for part in self.parts(group, length):
                for i, feature in zip(part, self.features(tokens[part, :length]), strict=True):
                    found[i] = feature
        return torch.stack(found)

    def pairs(
        self, starts: Sequence[str], candidates: Sequence[str]
    ) -> Iterator[tuple[list[int], torch.Tensor]]:
        """Features of every start followed by every candidate, a few starts at a time.

        Args:
            starts: how sentences begin, with the space that precedes the candidate.
        Yields:
            Positions of some starts, and their features [those starts, candidates, width].
        """
        import torch

        heads, tails, odd = self.split(starts, candidates)
        for i in odd:
            yield [i], self.encode([starts[i] + c for c in candidates])[None]
        good = [i for i in range(len(starts)) if i not in odd]
        if not good:
            return
        device = self.model.positional_embedding.device
        groups = [
            (part, torch.tensor([tails[i] for i in part], device=device))
            for group in by_length([len(tail) for tail in tails])
            for part in self.parts(group, len(tails[group[0]]))
        ]
        widest = max(tail.numel() for _, tail in groups)
        for same in by_length([len(heads[i]) for i in good]):
            for part in self.parts(same, widest):
                some = [good[i] for i in part]
                past = self.read_starts(torch.tensor([heads[i] for i in some], device=device))
                width = self.model.ln_final.weight.shape[0]
                features = past[0][0].new_empty(len(some), len(candidates), width)
                for group, tail in groups:
                    features[:, group] = self.read_tails(tail, past)
                yield some, self.project(features)

    def parts(self, rows: list[int], tokens: int) -> list[list[int]]:
        """Rows of so many tokens, in parts of which each fits into one pass."""
        step = max(1, self.room // tokens)
        return [rows[i : i + step] for i in range(0, len(rows), step)]

    def split(
        self, starts: Sequence[str], candidates: Sequence[str]
    ) -> tuple[list[list[int]], list[list[int]], set[int]]:
        """Token ids of the starts (with the start token) and candidates (with the end token).

        The third part holds the starts that have to be read with every candidate: those too long,
        and those whose sentence isn't spelled like its two parts. That is checked on every start
        with one candidate and on one start with every candidate.
        """
        everything = set(range(len(starts)))
        if not self.causal:
            return [], [], everything
        heads, _ = self.spell(starts)
        words, end = self.spell(candidates)
        tails = [[*ids[1:], end] for ids in words]
        longest = self.model.context_length - max(map(len, tails))
        whole, _ = self.spell([start + candidates[0] for start in starts])
        odd = {
            i
            for i, (head, ids) in enumerate(zip(heads, whole, strict=True))
            if len(head) > longest or head + tails[0] != [*ids, end]
        }
        one = min(everything - odd, default=None)
        if one is not None:
            whole, _ = self.spell([starts[one] + candidate for candidate in candidates])
            if any(heads[one] + t != [*ids, end] for t, ids in zip(tails, whole, strict=True)):
                odd = everything
        return heads, tails, odd

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text before anything is cut, the start and end token included."""
        # No token is shorter than a byte.
        enough = max((len(text.encode()) for text in texts), default=0) + 8
        tokens = self.tokenizer(list(texts), context_length=enough) if texts else None
        return [] if tokens is None else [end + 1 for end in self.ends(tokens)]

    def spell(self, texts: Sequence[str]) -> tuple[list[list[int]], int]:
        """Token ids before the end token of each text, and the end token."""
        tokens = self.tokenizer(list(texts))
        ends = self.ends(tokens)
        end = int(tokens[0, ends[0]])
        return [row[:e] for row, e in zip(tokens.tolist(), ends, strict=True)], end

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
        model = self.model
        length = tokens.shape[1]
        x = model.token_embedding(tokens) + model.positional_embedding[:length]
        x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
        return self.project(x[:, -1])

    def project(self, states: torch.Tensor) -> torch.Tensor:
        """States at the end token [..., width] → unit features [..., features]."""
        return unit(self.model.ln_final(states) @ self.model.text_projection)

    def read_starts(self, tokens: torch.Tensor) -> _KeysValues:
        """Keys and values [Q, heads, L, width / heads] of Q starts of L tokens, a pair a layer."""
        import torch

        length = tokens.shape[1]
        x = self.model.token_embedding(tokens) + self.model.positional_embedding[:length]
        kept = []
        for block in self.model.transformer.resblocks:
            query, key, value = (part.transpose(1, 2) for part in qkv(block, x))  # [Q, H, L, d]
            kept.append((key, value))
            mixed = torch.nn.functional.scaled_dot_product_attention(
                query, key, value, is_causal=True
            )
            x = rest(block, x, mixed.transpose(1, 2).flatten(-2))
        return kept

    def read_tails(self, tokens: torch.Tensor, past: _KeysValues) -> torch.Tensor:
        """States at the last of S tokens of C candidates behind each of Q starts: [Q, C, width].

        Args:
            tokens: [C, S].
            past: the starts' keys and values, from `read_starts`.
        """
        import torch

        starts, _, length, _ = past[0][0].shape
        steps = tokens.shape[1]
        place = slice(length, length + steps)
        x = self.model.token_embedding(tokens) + self.model.positional_embedding[place]
        x = x[None]  # [1, C, S, W]: the candidates' first layer doesn't see the starts yet
        causal = self.model.attn_mask[:steps, :steps]
        blocks = self.model.transformer.resblocks
        for block, (key_past, value_past) in zip(blocks, past, strict=True):
            # Nothing reads the last layer's states but the one at the end token.
            rows = slice(-1, None) if block is blocks[-1] else slice(None)
            query, key, value = (part.permute(0, 3, 1, 2, 4) for part in qkv(block, x, rows))
            query = query * query.shape[-1] ** -0.5  # [Q, H, C, S, d]
            shape = (starts, *query.shape[1:])
            before = query.flatten(2, 3) @ key_past.transpose(-1, -2)  # [Q, H, C*S, L]
            own = query @ key.transpose(-1, -2) + causal[rows]  # [Q, H, C, S, S]
            own = own.expand(*shape[:-1], steps)
            scores = torch.cat([before.view(*shape[:-1], length), own], dim=-1).softmax(-1)
            mixed = (scores[..., :length].flatten(2, 3) @ value_past).view(shape)
            mixed = mixed + scores[..., length:] @ value  # [Q, H, C, S, d]
            x = rest(block, x[:, :, rows], mixed.permute(0, 2, 3, 1, 4).flatten(-2))
        last: torch.Tensor = x[:, :, -1]
        return last


def unit(features: torch.Tensor) -> torch.Tensor:
    """Features [..., width] at unit length, in float32: half precision would bend them, and their
    products are compared in the third digit."""
    import torch

    return torch.nn.functional.normalize(features.float(), dim=-1)


def _is_plain_causal(model: Any) -> bool:
    """Whether the text tower is CLIP's own: causal, pooled at the end token, ordinary blocks."""
    import torch

    if "open_clip" not in sys.modules:  # it is another library's, then
        return False
    from open_clip.model import CLIP
    from open_clip.transformer import ResidualAttentionBlock

    return (
        isinstance(model, CLIP)
        and model.attn_mask is not None
        and model.text_pool_type in ("argmax", "eos")
        and isinstance(model.text_projection, torch.nn.Parameter)
        and all(type(b) is ResidualAttentionBlock for b in model.transformer.resblocks)
    )


def qkv(block: Any, x: torch.Tensor, rows: slice = slice(None)) -> tuple[torch.Tensor, ...]:
    """Queries, keys and values of a block's attention: [..., S, heads, width / heads] each.

    Args:
        x: [..., S, width].
        rows: the positions whose queries are wanted.
    """
    from torch.nn.functional import linear

    attention = block.attn
    weight, bias, width = attention.in_proj_weight, attention.in_proj_bias, x.shape[-1]
    x = block.ln_1(x)
    if rows == slice(None):
        parts = linear(x, weight, bias).chunk(3, dim=-1)
    else:
        query = linear(x[..., rows, :], weight[:width], bias[:width])
        parts = (query, *linear(x, weight[width:], bias[width:]).chunk(2, dim=-1))
    heads = attention.num_heads
    return tuple(part.reshape(*part.shape[:-1], heads, -1) for part in parts)


def rest(block: Any, x: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
    """What a block does after attention has mixed the values [..., width]."""
    x = x + block.ls_1(block.attn.out_proj(mixed))
    out: torch.Tensor = x + block.ls_2(block.mlp(block.ln_2(x)))
    return out
