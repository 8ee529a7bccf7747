"""Tokens and prices: what a request may cost, what the replies did cost, what is left to pay."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from abo_vqa.generate.pairs import Request, Usage

if TYPE_CHECKING:
    from abo_vqa.config import Generate
    from abo_vqa.generate.journal import Entry

TILE_TOKENS = 258  # Gemini's count for a picture up to 384 pixels a side, and for each tile above
LETTERS = 3  # a token of English has about four: three leaves room


def usd(usage: Usage, settings: Generate, share: float = 1.0) -> float:
    """What a reply cost, by the configured prices."""
    million = usage.input * settings.price_input + usage.output * settings.price_output
    return share * million / 1e6


def spent(entries: Iterable[Entry], settings: Generate) -> float:
    return sum(usd(entry.usage, settings, entry.price) for entry in entries)


def picture_tokens(size: int) -> int:
    """Input tokens of a picture of `size` pixels a side."""
    return TILE_TOKENS * (1 if size <= 384 else (-(-size // 768)) ** 2)


@dataclass
class Estimator:
    """Input tokens of a request before the vendor has counted them; learns to err upwards."""

    size: int
    ratio: float = 1.0

    def tokens(self, request: Request) -> int:
        """An estimate that has not been exceeded so far."""
        letters = len(request.system) + len(request.text)
        return int(self.ratio * (picture_tokens(self.size) + letters / LETTERS)) + 1

    def learn(self, request: Request, counted: int) -> None:
        """Raise the ratio if a request turned out larger than estimated."""
        estimate = self.tokens(request) / self.ratio
        self.ratio = max(self.ratio, counted / estimate)


def most_expensive(tokens: int, settings: Generate, share: float = 1.0) -> float:
    """USD that a request with `tokens` of input can cost at most."""
    return usd(Usage(tokens, settings.max_output_tokens), settings, share)
