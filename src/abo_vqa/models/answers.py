"""What a model answers, and the likeliest of several possible answers; loads no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from abo_vqa.core.config import Shortlist


@dataclass(frozen=True)
class Answer:
    """A model's answer to one question.

    Attributes:
        text: the answer; it may be empty, which counts as a wrong answer.
        confidence: the probability that the model assigns to `text`, or None if it has none.
        error: why the question couldn't be answered; empty if it was.
    """

    text: str
    confidence: float | None = None
    error: str = ""


@dataclass(frozen=True)
class CandidateAnswers:
    """The possible answers of a closed world, and how many of them a question is decided among.

    Attributes:
        texts: all candidates, the most frequent first.
        k: the length of a question's shortlist.
        shortlist: what is on it: the candidates whose first token is likeliest, as in BLIP's own
            evaluation, or the most frequent ones.
    """

    texts: tuple[str, ...]
    k: int
    shortlist: Shortlist

    @property
    def pool(self) -> tuple[str, ...]:
        """The candidates that any question's shortlist can contain."""
        return self.texts[: self.k] if self.shortlist == "frequent" else self.texts

    def select(self, log_probs: Sequence[float]) -> list[str]:
        """Return the k candidates of the pool that score highest, the first of equal ones.

        Args:
            log_probs: the score of each candidate in `pool`.
        """
        order = sorted(range(len(log_probs)), key=lambda i: -log_probs[i])  # stable
        return [self.pool[i] for i in order[: self.k]]


def likeliest(choices: Sequence[str], scores: Sequence[float], k: int | None = None) -> Answer:
    """Pick the choice of highest likelihood, the first of equal ones.

    Args:
        choices: the texts.
        scores: their log-likelihoods. A model with a vocabulary of answers gives minus infinity
            to what isn't in it.
        k: how many of the highest scores the confidence is a share of; None: all.

    Returns:
        The choice, with its softmax over the scores as confidence.
    """
    top = max(scores)
    if top == -math.inf:
        return Answer("", None, "none of the choices is among the model's answers")
    total = sum(math.exp(score - top) for score in sorted(scores, reverse=True)[:k])
    return Answer(choices[scores.index(top)], 1 / total)
