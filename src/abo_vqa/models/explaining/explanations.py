"""What an explanation consists of; loads no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

TokenKind = Literal["question", "answer"]

COUNT = 5
"""How many of the likeliest answers an explanation lists."""


@dataclass(frozen=True)
class LikelyAnswer:
    """A possible answer and its probability."""

    text: str
    probability: float


@dataclass(frozen=True)
class Likeliest:
    """The likeliest answers to a question.

    Attributes:
        answers: the likeliest first.
        scope: what they are the likeliest of, in words, and what their probabilities are.
    """

    answers: tuple[LikelyAnswer, ...]
    scope: str

    @classmethod
    def of(cls, texts: Sequence[str], probabilities: Sequence[float], scope: str) -> Likeliest:
        """Return the likeliest of some answers, the first of equal ones.

        Args:
            texts: the answers.
            probabilities: their probabilities; an answer of probability 0 is impossible.
            scope: see the class.
        """
        order = sorted(range(len(texts)), key=lambda i: -probabilities[i])[:COUNT]
        answers = [LikelyAnswer(texts[i], float(probabilities[i])) for i in order]
        return cls(tuple(answer for answer in answers if answer.probability > 0), scope)


@dataclass(frozen=True)
class AttentionMaps:
    """How each token's attention is spread over an image.

    A token's map and its share elsewhere sum to 1.

    Attributes:
        tokens: T tokens, as a reader would write them.
        kinds: of each, whether it is the question's or the answer's.
        maps: [T, H, W], the attention to each patch of the image, row by row.
        elsewhere: [T], the attention to what is no place in the image, such as a class token.
        region: the part of the image that the patches cover, as left, top, right and bottom in
            fractions of its width and height; not all of it if the processor crops.
        method: what has been averaged or combined, in words.
    """

    tokens: tuple[str, ...]
    kinds: tuple[TokenKind, ...]
    maps: NDArray[np.float64]
    elsewhere: NDArray[np.float64]
    region: tuple[float, float, float, float]
    method: str


WHOLE_IMAGE = (0.0, 0.0, 1.0, 1.0)
"""The region of a processor that doesn't crop."""


@dataclass(frozen=True)
class Explanation:
    """An answer, and what can be said about how the model came to it.

    Attributes:
        answer: the answer.
        confidence: the probability that the model assigns to it; None if it has none.
        likeliest: the likeliest answers; None if the model gives no likelihoods.
        attention: where it looked; None if that isn't available.
        no_attention: why it isn't; empty if it is.
    """

    answer: str
    confidence: float | None
    likeliest: Likeliest | None
    attention: AttentionMaps | None
    no_attention: str = ""
