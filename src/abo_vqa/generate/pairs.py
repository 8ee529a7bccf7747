"""The words every part of generation shares: products, pairs, replies, and what can go wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

Product = Mapping[str, str]
"""A row of the balanced table."""


@dataclass(frozen=True)
class Pair:
    """A question and its one-word answer; `kind` is what it asks for ("" : not known yet)."""

    question: str
    answer: str
    kind: str = ""


@dataclass(frozen=True)
class Reject:
    """A pair that the quality gate turned down, and why."""

    question: str
    answer: str
    reason: str


@dataclass(frozen=True)
class Usage:
    """Tokens of one request, as the vendor counts them; thoughts are paid like output."""

    input: int = 0
    output: int = 0


@dataclass(frozen=True)
class Request:
    """One question to an annotator: instructions, catalogue data, and the picture.

    Attributes:
        system: the task. text: the product as data, and what is wanted.
        picture: encoded bytes of the type `mime`.
    """

    system: str
    text: str
    picture: bytes
    mime: str = "image/jpeg"


@dataclass(frozen=True)
class Reply:
    """What came back: the model's text, and why it stopped.

    Attributes:
        finish: the vendor's finish reason; "STOP" is the good one.
        blocked: the vendor's reason for not answering this prompt at all, or "".
        model: the version that answered.
    """

    text: str
    finish: str = "STOP"
    blocked: str = ""
    usage: Usage = field(default_factory=Usage)
    model: str = ""


class Annotator(Protocol):
    """A remote model that writes pairs. One instance serves one key and many threads."""

    def ask(self, request: Request) -> Reply:
        """Send one request and wait for the answer.

        Raises:
            Trouble: or one of its subclasses, never with a key in its message.
        """

    def count_tokens(self, request: Request) -> int:
        """Input tokens of a request, by the vendor's own (free) count."""

    def close(self) -> None:
        """Give connections back."""


class Trouble(Exception):
    """The request failed for now (5xx, timeout, dropped connection): try again.

    Attributes:
        delay: seconds the server asked to wait, or None.
        billed: whether the vendor may have charged for it all the same.
    """

    billed = True

    def __init__(self, message: str, delay: float | None = None) -> None:
        super().__init__(message)
        self.delay = delay


class Throttled(Trouble):
    """HTTP 429, a quota per minute: this key pauses.

    Attributes:
        day: whether a quota per day was named beside it, which may be the one that is spent.
    """

    billed = False

    def __init__(self, message: str, delay: float | None = None, day: bool = False) -> None:
        super().__init__(message, delay)
        self.day = day


class DaySpent(Trouble):
    """HTTP 429, a quota per day: this key is done until the vendor's midnight."""

    billed = False


class Refused(Trouble):
    """The vendor won't take this image's request (400): asking again is useless."""

    billed = False


class BadKey(Trouble):
    """HTTP 401, 403, or 400 with API_KEY_INVALID: this key can't be used."""

    billed = False


class BadAccount(BadKey):
    """The key's account is refused (billing, region, suspension), whatever is asked."""


class NoQuota(BadKey):
    """HTTP 429 with a quota of 0: the model isn't in the key's plan, today or any day."""


class BadModel(Trouble):
    """HTTP 404: the model doesn't exist or is retired."""

    billed = False
