"""Tokens and prices: what a request may cost, what replies have cost, what may still be spent."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from abo_vqa.core.log import get_logger
from abo_vqa.core.service_config import Prices
from abo_vqa.remote.contract import Reply, Request, Usage

if TYPE_CHECKING:
    from abo_vqa.core.service_config import ServiceConfig
    from abo_vqa.remote.journal import JournalEntry

logger = get_logger(__name__)

_TILE_TOKENS = 258  # Gemini's count for an image up to 384 pixels per side, and for each tile above
_CHARACTERS_PER_TOKEN = 3  # about four in English: three leaves room
# What bounds the first request's price. Gemini's current models count up to 1,120 tokens for an
# image (at their default resolution), and the schema of the reply is charged like text.
_MAX_IMAGE_TOKENS, _MAX_SCHEMA_TOKENS = 1120, 400
# OpenAI's models count differently; the most by far is 2,833 and 5,667 for each tile of 512 pixels
# (GPT-4o mini). Of other servers nobody knows, and few count as many.
_OPENAI_BASE_TOKENS, _OPENAI_TILE_TOKENS, _OPENAI_TILE, _OPENAI_MAX_TILES = 2833, 5667, 512, 8


def price_usd(usage: Usage, settings: ServiceConfig, share: float = 1.0) -> float:
    """Return what a reply costs.

    Args:
        usage: its tokens.
        settings: the prices. Where they aren't known, everything counts as 0: there is no budget
            then, and `describe_cost` says so.
        share: share of the list price; the batch mode's is about 0.5.
    """
    prices = settings.prices or Prices(0.0, 0.0)
    return share * (usage.input * prices.input + usage.output * prices.output) / 1e6


def describe_cost(cost: float, settings: ServiceConfig) -> str:
    """Return an amount for people: "0.1234 USD", or that the price isn't known.

    Args:
        cost: what `price_usd` or `total_cost` returned.
        settings: the prices.
    """
    return f"{cost:.4f} USD" if settings.prices else "price unknown"


def total_cost(entries: Iterable[JournalEntry], settings: ServiceConfig) -> float:
    """Return what the replies in a journal cost, in USD."""
    return sum(price_usd(entry.usage, settings, entry.price) for entry in entries)


def total_usage(entries: Iterable[JournalEntry]) -> Usage:
    """Return the tokens of the replies in a journal."""
    total = Usage()
    for entry in entries:
        total = Usage(total.input + entry.usage.input, total.output + entry.usage.output)
    return total


def _image_tokens(size: int) -> int:
    """Return the input tokens of an image of `size` pixels per side."""
    return _TILE_TOKENS * (1 if size <= 384 else (-(-size // 768)) ** 2)


def _max_image_tokens(size: int, protocol: str) -> int:
    """Return a number that no image of `size` pixels per side is counted as exceeding."""
    if protocol == "openai":
        tiles = 1 if size <= _OPENAI_TILE else _OPENAI_MAX_TILES
        return _OPENAI_BASE_TOKENS + _OPENAI_TILE_TOKENS * tiles
    return max(_MAX_IMAGE_TOKENS, _image_tokens(size))


@dataclass
class TokenEstimator:
    """Estimates a request's input tokens before the vendor has counted them.

    Attributes:
        size: of the images sent, in pixels per side.
        ratio: factor on the estimate, raised by what was counted.
        largest: the vendor's largest count so far under these settings; 0 if there is none.
        protocol: how the service is spoken to.
    """

    size: int
    ratio: float = 1.0
    largest: int = 0
    protocol: str = "gemini"

    @classmethod
    def from_entries(
        cls, settings: ServiceConfig, entries: Iterable[JournalEntry]
    ) -> TokenEstimator:
        """Return an estimator that knows the replies of a journal."""
        counts = (entry.usage.input for entry in entries if entry.usage.counted)
        largest = max(counts, default=0)
        return cls(settings.image_size, largest=largest, protocol=settings.protocol)

    def estimate(self, request: Request) -> int:
        """Return an estimate that no request has exceeded so far."""
        characters = len(request.system) + len(request.text)
        return int(self.ratio * (_image_tokens(self.size) + characters / _CHARACTERS_PER_TOKEN)) + 1

    def upper_bound(self, request: Request) -> int:
        """Return a number that no request exceeds: none may cost more than it reserves.

        A token has at least one byte. Before anything was counted, that bounds the whole text.
        Afterwards the instruction and the schema are part of what was counted, and only the
        product's text is new, as are an image's further tiles where images are large enough to
        have several.
        """
        text = len(request.text.encode())
        if self.largest:
            return self.largest + text + _image_tokens(self.size) - _TILE_TOKENS
        image = _max_image_tokens(self.size, self.protocol)
        return len(request.system.encode()) + text + image + _MAX_SCHEMA_TOKENS

    def update(self, request: Request, usage: Usage) -> None:
        """Raise the ratio if a request turned out larger than estimated.

        Args:
            request: the request.
            usage: its tokens; those that the vendor hasn't counted say nothing.
        """
        if not usage.counted:
            return
        estimate = self.estimate(request) / self.ratio
        self.ratio = max(self.ratio, usage.input / estimate)
        self.note_count(usage)

    def note_count(self, usage: Usage) -> None:
        """Take into account what the vendor has counted for some reply under these settings."""
        if usage.counted:
            self.largest = max(self.largest, usage.input)


class Budget:
    """What a run has spent and may still spend. Thread-safe.

    Attributes:
        limit: USD (`generate.budget_usd`), or None.
        cost: USD that the journal's replies have cost so far, those of earlier runs included.
        estimator: of input tokens.
    """

    def __init__(
        self,
        settings: ServiceConfig,
        entries: Sequence[JournalEntry],
        reserved: Callable[[], float],
        share: float = 1.0,
    ) -> None:
        """Start with what earlier runs have spent.

        Args:
            settings: prices and the limit.
            entries: the journal's entries so far.
            reserved: returns the USD that requests without a known price may cost.
            share: share of the list price that new requests cost.
        """
        self.limit = settings.budget_usd
        self.cost = total_cost(entries, settings)
        self.estimator = TokenEstimator.from_entries(settings, entries)
        self._settings, self._reserved, self._share = settings, reserved, share
        self._lock = threading.Lock()
        self._warned = False  # that the server doesn't count tokens

    @property
    def output_limit(self) -> int:
        """Output tokens that a request may take at most."""
        return self._settings.max_output_tokens

    @property
    def committed(self) -> float:
        """USD spent, or reserved for requests without a known price."""
        # In this order: what is answered meanwhile counts twice for a moment, never not at all.
        reserved = self._reserved()
        return reserved + self.cost

    def max_cost(self, request: Request, share: float | None = None) -> float:
        """Return the USD that a request can cost at most.

        Args:
            request: the request.
            share: share of the list price, if it isn't the run's.
        """
        usage = self._max_usage(request)
        return price_usd(usage, self._settings, self._share if share is None else share)

    def _max_usage(self, request: Request) -> Usage:
        tokens = self.estimator.upper_bound(request)
        return Usage(tokens, self.output_limit, counted=False)

    def bound_usage(self, reply: Reply, request: Request) -> Reply:
        """Return a reply with tokens; where the server hasn't counted them, the most possible.

        So a budget holds whatever the server charges. It is said once.

        Args:
            reply: the reply.
            request: what it answers; the image isn't needed.
        """
        if reply.usage.counted:
            return reply
        usage = self._max_usage(request)
        with self._lock:
            if not self._warned:
                logger.warning(
                    "the server doesn't report how many tokens a request takes (usage): tokens "
                    f"and cost are upper limits, here {usage.input:,} in and {usage.output:,} out "
                    "per request"
                )
            self._warned = True
        return replace(reply, usage=usage)

    def allows(self, cost: float) -> bool:
        """Return whether `cost` more USD stay within the limit."""
        return self.limit is None or self.committed + cost <= self.limit

    def record(self, entry: JournalEntry) -> None:
        """Add what a reply cost."""
        with self._lock:
            self.cost += price_usd(entry.usage, self._settings, entry.price)
