"""Greedy decoding that also gives the probability of what was decoded.

Its own loop instead of `generate` of transformers: it drives any decode step, among them the one
that shares an image's KV cache between its questions and the one with BLIP's masks, and it sums the
probabilities without keeping the logits of all steps (docs/benchmarks.md, "Baselines").
"""

from __future__ import annotations

import string
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from abo_vqa.core.config import CheckpointConfig

_Step = Callable[[Tensor], Tensor]
"""The last tokens [B, 1] → the next logits [B, vocabulary]."""


def greedy(
    logits: Tensor, step: _Step, end_tokens: Collection[int], max_new_tokens: int
) -> list[tuple[list[int], float]]:
    """Take the most probable token until all rows have ended.

    Args:
        logits: [B, vocabulary], for the first token.
        step: the model, with its KV cache.
        end_tokens: the tokens that end an answer.
        max_new_tokens: maximum number of tokens, the end token included.

    Returns:
        For each row its tokens without the end token, and their joint probability, the end token
        included: the probability of this answer and no other.
    """
    ends = torch.tensor(sorted(end_tokens), dtype=torch.long, device=logits.device)
    filler = min(end_tokens, default=0)  # after an end token; never used
    batch = len(logits)
    finished = torch.zeros(batch, dtype=torch.bool, device=logits.device)
    log_prob = torch.zeros(batch, dtype=torch.float64, device=logits.device)
    decoded = []  # for each step, the tokens [B]
    for count in range(1, max_new_tokens + 1):
        best, token = logits.float().log_softmax(-1).max(-1)  # [B], [B]
        log_prob += torch.where(finished, 0.0, best.double())
        decoded.append(torch.where(finished, filler, token))
        finished |= torch.isin(token, ends)
        if count == max_new_tokens or bool(finished.all()):
            break
        logits = step(token[:, None])
    rows = torch.stack(decoded, dim=1).tolist()  # [B, tokens]
    return [
        (truncate(row, end_tokens), probability)
        for row, probability in zip(rows, log_prob.exp().tolist(), strict=True)
    ]


def truncate(tokens: Sequence[int], end_tokens: Collection[int]) -> list[int]:
    """Return the tokens before the first end token."""
    end = next((i for i, token in enumerate(tokens) if token in end_tokens), len(tokens))
    return list(tokens[:end])


def end_tokens_of(model: PreTrainedModel) -> set[int]:
    """Return the tokens that end a model's answers.

    They are in the generation settings or, for a repository without generation_config.json, in the
    language model's configuration.

    Args:
        model: a generative model of transformers.
    """
    tokens = model.generation_config.eos_token_id
    if tokens is None:
        tokens = model.config.get_text_config().eos_token_id
    if tokens is None:
        return set()
    return {tokens} if isinstance(tokens, int) else set(tokens)


def extract_answer(text: str, rule: Literal["whole", "last_word"]) -> str:
    """Return the answer in a generated text.

    Args:
        text: the text.
        rule: "whole" for all of it, "last_word" for its last word without punctuation.
    """
    if rule == "whole":
        return text
    words = [word.strip(string.punctuation) for word in text.split()]
    return next(filter(None, reversed(words)), "")


def decoding_of(checkpoint: CheckpointConfig, rule: Literal["whole", "last_word"]) -> str:
    """Return how a generative model's answers are decoded, in words.

    Args:
        checkpoint: the checkpoint's settings.
        rule: see `extract_answer`.
    """
    return f"greedy, at most {checkpoint.max_new_tokens} tokens, answer: {rule}"
