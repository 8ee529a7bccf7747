"""What goes to a remote model and comes back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


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
