"""Tokens and prices: what a request may cost, what the replies did cost, what is left to pay."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from abo_vqa.remote.contract import Request, Usage

if TYPE_CHECKING:
    from abo_vqa.config import GenerateConfig
    from abo_vqa.remote.journal import Entry

_TILE_TOKENS = 258  # Gemini's count for a picture up to 384 pixels a side, and for each tile above
_LETTERS = 3  # a token of English has about four: three leaves room
# What bounds the first request's price. The current models count up to 1,120 tokens for a picture
# (at their default resolution), and the schema of the answer is paid for like text.
_MOST_PICTURE, _MOST_SCHEMA = 1120, 400


def usd(usage: Usage, settings: GenerateConfig, share: float = 1.0) -> float:
    """What a reply cost, by the configured prices."""
    million = usage.input * settings.price_input + usage.output * settings.price_output
    return share * million / 1e6


def spent(entries: Iterable[Entry], settings: GenerateConfig) -> float:
    return sum(usd(entry.usage, settings, entry.price) for entry in entries)


def _picture_tokens(size: int) -> int:
    """Input tokens of a picture of `size` pixels a side."""
    return _TILE_TOKENS * (1 if size <= 384 else (-(-size // 768)) ** 2)


@dataclass
class Estimator:
    """Input tokens of a request before the vendor has counted them; learns to err upwards.

    Attributes:
        size: of the pictures sent, in pixels a side.
        ratio: by which the estimate is scaled, from what was counted.
        largest: the vendor's largest count so far under these settings; 0: none yet.
    """

    size: int
    ratio: float = 1.0
    largest: int = 0

    @classmethod
    def knowing(cls, size: int, entries: Iterable[Entry]) -> Estimator:
        """An estimator that has seen the replies of a journal."""
        return cls(size, largest=max((entry.usage.input for entry in entries), default=0))

    def tokens(self, request: Request) -> int:
        """An estimate that has not been exceeded so far."""
        letters = len(request.system) + len(request.text)
        return int(self.ratio * (_picture_tokens(self.size) + letters / _LETTERS)) + 1

    def at_most(self, request: Request) -> int:
        """A bound that no request exceeds, for what must not cost more than it reserves.

        A token has at least a byte. Before anything was counted, that bounds the whole text. Then
        the task and the schema are in what was counted, and only the product's text is new; so
        are a picture's further tiles where pictures are large enough to have several.
        """
        text = len(request.text.encode())
        if self.largest:
            return self.largest + text + _picture_tokens(self.size) - _TILE_TOKENS
        picture = max(_MOST_PICTURE, _picture_tokens(self.size))
        return len(request.system.encode()) + text + picture + _MOST_SCHEMA

    def learn(self, request: Request, counted: int) -> None:
        """Raise the ratio if a request turned out larger than estimated."""
        estimate = self.tokens(request) / self.ratio
        self.ratio = max(self.ratio, counted / estimate)
        self.largest = max(self.largest, counted)


def most_expensive(tokens: int, settings: GenerateConfig, share: float = 1.0) -> float:
    """USD that a request with `tokens` of input can cost at most."""
    return usd(Usage(tokens, settings.max_output_tokens), settings, share)
