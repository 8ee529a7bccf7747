"""Prompts with their answers as sequences to train on, an image's questions in one if possible.

An image's tokens are most of a sequence, and no later token changes them where attention is causal.
So the image and the start that its prompts have in common stand in a sequence once, and the rest of
each prompt with its answer behind it. Each of these segments attends to the start and to itself
only, and its positions continue those of the start, so that the loss and its gradients are those of
one sequence for each question (tests/models/test_sequences.py).

Shapes: R sequences of up to L tokens, padded on the right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from abo_vqa.models.causal.positions import continue_positions
from abo_vqa.models.causal.prefill import Prompt, common_start

_IGNORED = -100  # torch's label for positions that the loss leaves out
_PADDING = -1  # segment of padding; 0 is the start, the questions' are counted from 1


@dataclass(frozen=True)
class Sequences:
    """Prompts and answers as the language model is given them.

    Attributes:
        ids: [R, L] token ids.
        positions: [R, L] or [3, R, L].
        labels: [R, L] the answer's token that follows each position, or `_IGNORED`.
        segments: [R, L] the question that each token belongs to, 0 for the start, -1 for padding.
        is_prompt: [R, L] whether a token stands before the answer; padding doesn't.
        images: for each sequence, its image's position among the batch's.
    """

    ids: Tensor
    positions: Tensor
    labels: Tensor
    segments: Tensor
    is_prompt: Tensor
    images: tuple[int, ...]

    @property
    def shared(self) -> bool:
        """Whether a sequence has several questions."""
        return bool((self.segments > 1).any())


@dataclass(frozen=True)
class _Sequence:
    """One sequence; its tensors as in `Sequences`, without the first dimension."""

    ids: list[int]
    positions: Tensor
    labels: list[int]
    segments: list[int]
    is_prompt: list[bool]
    image: int


def make_sequences(
    prompts: Sequence[Prompt],
    answers: Sequence[Sequence[int]],
    image_index: Sequence[int],
    share: bool,
) -> Sequences:
    """Put prompts and answers into sequences.

    Args:
        prompts: B prompts, those of an image consecutive.
        answers: the tokens of their answers, end tokens included.
        image_index: for each of them, its image's position in the batch.
        share: whether an image's questions may stand in one sequence.
    """
    rows = list(range(len(prompts)))
    groups = [list(group) for _, group in groupby(rows, key=lambda row: image_index[row])]
    if not share:
        groups = [[row] for row in rows]
    separate = [
        _make_sequence(
            [prompts[row] for row in group], [answers[row] for row in group], image_index[group[0]]
        )
        for group in groups
    ]
    return Sequences(
        # Masked: any token but the image's will do, and a sequence doesn't end with that.
        ids=_pad([sequence.ids for sequence in separate], separate[0].ids[-1]),
        positions=_pad_positions([sequence.positions for sequence in separate]),
        labels=_pad([sequence.labels for sequence in separate], _IGNORED),
        segments=_pad([sequence.segments for sequence in separate], _PADDING),
        is_prompt=_pad([sequence.is_prompt for sequence in separate], 0).bool(),
        images=tuple(sequence.image for sequence in separate),
    )


def _make_sequence(
    prompts: Sequence[Prompt], answers: Sequence[Sequence[int]], image: int
) -> _Sequence:
    """Put the questions about an image behind each other."""
    first = prompts[0]
    start = first.text_start + common_start(prompts) if len(prompts) > 1 else 0
    ids, positions = list(first.ids[:start]), [first.positions[..., :start]]
    labels, segments, is_prompt = [_IGNORED] * start, [0] * start, [True] * start
    for number, (prompt, answer) in enumerate(zip(prompts, answers, strict=True), start=1):
        # The end token isn't fed: nothing follows it.
        rest, fed = list(prompt.ids[start:]), list(answer[:-1])
        ids += rest + fed
        after = continue_positions(prompt.positions, len(fed))
        positions += [prompt.positions[..., start:], after]
        labels += [_IGNORED] * (len(rest) - 1) + list(answer)
        segments += [number] * (len(rest) + len(fed))
        is_prompt += [True] * len(rest) + [False] * len(fed)
    return _Sequence(ids, torch.cat(positions, dim=-1), labels, segments, is_prompt, image)


def attention_mask(segments: Tensor) -> Tensor:
    """Return which tokens attend to which.

    Args:
        segments: [R, L], see `Sequences`.

    Returns:
        [R, 1, L, L], True where a token (third dimension) attends to one before it or to itself:
        to the start and to its own segment. Padding attends to itself, so that no row is empty.
    """
    length = segments.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=segments.device).tril()
    query, key = segments[:, :, None], segments[:, None, :]
    return (causal & ((key == 0) | (key == query)))[:, None]


def _pad(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """Join rows to [R, L]."""
    return pad_sequence([torch.tensor(row) for row in rows], True, value)


def _pad_positions(positions: Sequence[Tensor]) -> Tensor:
    """Join positions to [R, L] or [3, R, L]."""
    padded = pad_sequence([row.movedim(-1, 0) for row in positions])  # [L, R, ...]
    return padded.movedim(0, -1) if padded.ndim == 2 else padded.permute(2, 1, 0)
