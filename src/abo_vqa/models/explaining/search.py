"""The likeliest texts that a decoder can write, found exactly.

Texts are a tree of tokens, and a continuation is never likelier than what it continues. So the
likeliest open beginnings are continued again and again; as soon as none is likelier than the n-th
of the finished texts, those n are the likeliest of all texts. Answers are short and a decoder is
rarely undecided between more than a few, so this takes few steps; a beam search of the same cost
could miss some, and wouldn't know it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import Tensor

_WIDTH = 16  # beginnings that are continued at a time
_KEPT = 64  # continuations of each beginning that are kept
_STEPS = 40  # at most

Continue = Callable[[Sequence[tuple[int, ...]]], Tensor]
"""P beginnings of at least one token → log-probabilities [P, vocabulary] of the next token."""


class TextSearch:
    """The n likeliest token sequences.

    Args:
        first: [vocabulary], the log-probabilities of the first token.
        continue_: the decoder.
        end_token: ends a text.
        max_tokens: maximum number of tokens, the end token included; a text that has as many ends
            there, as in greedy decoding.
        count: n.

    Attributes:
        finished: up to n sequences without the end token and their log-probabilities, the likeliest
            first.
        exact: whether no other sequence is likelier than these.
    """

    def __init__(
        self, first: Tensor, continue_: Continue, end_token: int, max_tokens: int, count: int
    ) -> None:
        self.finished: list[tuple[tuple[int, ...], float]] = []
        self._open: list[tuple[tuple[int, ...], float]] = []
        self._end, self._max_tokens, self._count = end_token, max_tokens, count
        self._dropped = -math.inf  # the likeliest beginning that wasn't kept
        self._add((), 0.0, first)
        for _ in range(_STEPS):
            self._open = [pair for pair in self._open if pair[1] > self._threshold]
            if not self._open:
                break
            self._open.sort(key=lambda pair: -pair[1])
            chosen, self._open = self._open[:_WIDTH], self._open[_WIDTH:]
            rows = continue_([tokens for tokens, _ in chosen])
            for (tokens, log_prob), row in zip(chosen, rows, strict=True):
                self._add(tokens, log_prob, row)
        left = max([self._dropped, *(log_prob for _, log_prob in self._open)])
        self.exact = len(self.finished) == count and left <= self._threshold

    @property
    def _threshold(self) -> float:
        """What a text must exceed to be among the n likeliest."""
        return self.finished[-1][1] if len(self.finished) == self._count else -math.inf

    def _add(self, tokens: tuple[int, ...], log_prob: float, following: Tensor) -> None:
        """Continue a beginning by each of its likeliest next tokens."""
        kept = min(_KEPT, len(following) - 1)
        values, indices = (log_prob + following.double()).topk(kept + 1)
        self._dropped = max(self._dropped, float(values[-1]))
        pairs = list(zip(indices.tolist(), values.tolist(), strict=True))[:kept]
        if self._end not in indices[:kept]:
            pairs.append((self._end, log_prob + float(following[self._end])))
        for token, value in pairs:
            if token == self._end:
                self._finish(tokens, value)
            elif len(tokens) + 1 == self._max_tokens:
                self._finish((*tokens, token), value)
            else:
                self._open.append(((*tokens, token), value))

    def _finish(self, tokens: tuple[int, ...], log_prob: float) -> None:
        """Keep a finished text if it is among the n likeliest so far."""
        self.finished.append((tokens, log_prob))
        self.finished.sort(key=lambda pair: -pair[1])
        del self.finished[self._count :]
