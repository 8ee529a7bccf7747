"""Likelihoods of given answers: all choices of a question in one pass behind its prompt.

A prompt's KV cache would have to be copied for each choice otherwise: for a model of 7 billion
parameters and an image of 576 tokens, 300 MB each. Here the choices stand behind each other, and a
mask keeps them apart.

Shapes: B prompts of L cached tokens; S tokens of all choices of a prompt; vocabulary V.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from abo_vqa.models.causal.prefill import Prefilled, Segment
from abo_vqa.models.causal.sequences import attention_mask

if TYPE_CHECKING:
    from abo_vqa.models.causal.prefill import Forward

_POSITIONS = 2048  # whose logits are held at a time: 260 MB for a vocabulary of 32,000
_PADDING = -1


@dataclass(frozen=True)
class _Row:
    """The choices of a prompt behind each other, without their last tokens, which nothing follows.

    Attributes:
        fed: [S] the tokens.
        choice: [S] the choice that each belongs to.
        offset: [S] its position in that choice.
        following: [S] the token after each.
    """

    fed: Tensor
    choice: Tensor
    offset: Tensor
    following: Tensor


def log_likelihoods(
    forward: Forward,
    state: Prefilled,
    choices: Sequence[Sequence[Sequence[int]]],
    make_mask: Callable[[Tensor], Tensor],
) -> list[list[float]]:
    """Sum the log-probabilities of each choice's tokens after its prompt.

    Args:
        forward: the language model.
        state: B prompts; their cache is used up.
        choices: for each prompt the tokens of its choices, none of them empty.
        make_mask: turns [B, 1, S, L + S], True where a token attends to another, into a mask of the
            attention implementation's kind.

    Returns:
        For each prompt the sums of its choices.
    """
    device = state.logits.device
    first = state.logits.float().log_softmax(-1).double()  # [B, V]
    scores = [
        row[torch.tensor([ids[0] for ids in options], device=device)]
        for row, options in zip(first, choices, strict=True)
    ]  # B tensors, one number for each choice
    rows = [_join(options) for options in choices]
    if any(len(row.fed) for row in rows):
        segment = _choices_segment(rows, state, make_mask)
        log_probs = forward(segment).logits.float().log_softmax(-1)  # [B, S, V]
        for i, row in enumerate(rows):
            here = log_probs[i, : len(row.fed)]
            each = here.gather(1, row.following[:, None].to(device))[:, 0].double()
            scores[i] = scores[i].index_add(0, row.choice.to(device), each)
    return [row.tolist() for row in scores]


def _join(choices: Sequence[Sequence[int]]) -> _Row:
    """Put choices behind each other."""
    parts = [(number, ids) for number, ids in enumerate(choices) if len(ids) > 1]
    return _Row(
        torch.tensor([token for _, ids in parts for token in ids[:-1]], dtype=torch.long),
        torch.tensor([n for n, ids in parts for _ in ids[:-1]], dtype=torch.long),
        torch.tensor([k for _, ids in parts for k in range(len(ids) - 1)], dtype=torch.long),
        torch.tensor([token for _, ids in parts for token in ids[1:]], dtype=torch.long),
    )


def _choices_segment(
    rows: Sequence[_Row], state: Prefilled, make_mask: Callable[[Tensor], Tensor]
) -> Segment:
    """Return the forward pass of the choices after the cached prompts."""
    fed = pad_sequence([row.fed for row in rows], True)  # [B, S]
    # Segments are counted from 1: 0 would be seen by all.
    segments = pad_sequence([row.choice + 1 for row in rows], True, _PADDING)
    offsets = pad_sequence([row.offset for row in rows], True)
    apart = attention_mask(segments)  # [B, 1, S, S]
    cached = state.mask.bool()[:, None, None].expand(-1, -1, fed.shape[1], -1)
    return Segment(
        fed,
        (),
        state.positions + offsets,
        make_mask(torch.cat([cached, apart], dim=-1)),
        state.cache,
        logits_to_keep=fed.shape[1],
    )


def pieces(rows: Sequence[int], lengths: Sequence[int]) -> Iterator[list[int]]:
    """Split rows so that their choices' logits fit into memory.

    Args:
        rows: positions in `lengths`.
        lengths: the number of tokens of each row's choices.

    Yields:
        Some of the rows, at least one.
    """
    longest = max((lengths[row] for row in rows), default=1)
    size = max(1, _POSITIONS // max(1, longest))
    for start in range(0, len(rows), size):
        yield list(rows[start : start + size])
