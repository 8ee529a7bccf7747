"""Greedy decoding as long as needed, with the probability of what was said."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_Step = Callable[["torch.Tensor"], "torch.Tensor"]
"""Takes the last tokens [B, 1], gives the next logits [B, V]."""


def greedy(
    logits: torch.Tensor, step: _Step, ends: Collection[int], longest: int
) -> list[tuple[list[int], float]]:
    """Take the most probable token until every row has ended.

    Args:
        logits: [B, V], for the first token.
        step: the model, which remembers what it was given.
        ends: tokens that end an answer.
        longest: tokens at most, the end token included.
    Returns:
        For each row its tokens without the end token, and their joint probability (the end
        token's included): what the model gives to saying just that.
    """
    import torch

    end = torch.tensor(sorted(ends), dtype=torch.long, device=logits.device)
    filler = min(ends, default=0)  # behind an end, where nobody looks
    rows = len(logits)
    ended = torch.zeros(rows, dtype=torch.bool, device=logits.device)
    total = torch.zeros(rows, dtype=torch.float64, device=logits.device)
    said = []
    for count in range(1, longest + 1):
        best, token = logits.float().log_softmax(-1).max(-1)  # [B], [B]
        total += torch.where(ended, 0.0, best.double())
        said.append(torch.where(ended, filler, token))
        ended |= torch.isin(token, end)
        if count == longest or bool(ended.all()):
            break
        logits = step(token[:, None])
    tokens = torch.stack(said, dim=1).tolist()  # [B, answer]
    return [(until(row, ends), p) for row, p in zip(tokens, total.exp().tolist(), strict=True)]


def until(tokens: Sequence[int], ends: Collection[int]) -> list[int]:
    """Tokens up to the first end token."""
    return list(tokens[: next((i for i, t in enumerate(tokens) if t in ends), len(tokens))])


def end_tokens(model: Any) -> set[int]:
    """The end tokens, one or several, of a model's generation settings or else its language
    model's: a repository without generation_config.json leaves them out of the former."""
    found = model.generation_config.eos_token_id
    if found is None:
        found = model.config.get_text_config().eos_token_id
    if found is None:
        return set()
    return {found} if isinstance(found, int) else set(found)
