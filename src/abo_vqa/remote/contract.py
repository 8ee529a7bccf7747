"""The contract between annotation and a model: what is sent, what comes back, which calls exist.

Each protocol has one file that implements `ModelClient`, and `BatchClient` where the vendor offers
batch jobs; `clients.py` lists them by their names in the configuration. The journal, the ledger,
the budget and the quality filter depend on this file alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from abo_vqa.remote.errors import ServiceError


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request as the vendor counts them; reasoning is charged as output.

    Attributes:
        input: of the prompt and the image.
        output: of the reply and the reasoning.
        counted: False where the server doesn't tell: `Budget.bound_usage` then has the most that
            they can be.
    """

    input: int = 0
    output: int = 0
    counted: bool = True


@dataclass(frozen=True)
class Request:
    """One request: instructions, text, and an image.

    Attributes:
        system: the system instruction, or "".
        text: the user's turn.
        image: encoded bytes of the type `mime_type`.
        schema: what the reply has to look like, in OpenAPI's terms; {} for free text. Clients may
            add to it.
        mime_type: the image's type.
    """

    system: str
    text: str
    image: bytes
    schema: dict[str, Any] = field(default_factory=dict)
    mime_type: str = "image/jpeg"


@dataclass(frozen=True)
class Reply:
    """The model's text and why it stopped.

    Attributes:
        text: the text, without the model's reasoning.
        finish: the vendor's finish reason; "STOP" is the regular one.
        blocked: the vendor's reason for not answering this prompt at all, or "".
        usage: tokens paid for.
        model: the version that answered.
    """

    text: str
    finish: str = "STOP"
    blocked: str = ""
    usage: Usage = field(default_factory=Usage)
    model: str = ""


class ModelClient(Protocol):
    """A model behind an API or on this machine. One instance serves one key and many threads."""

    def generate(self, request: Request) -> Reply:
        """Send one request and wait for the reply, without retries.

        Raises:
            ServiceError: or one of its subclasses, never with a key in its message.
        """

    def count_tokens(self, request: Request) -> int:
        """Return the input tokens of a request by the vendor's own (free) count."""

    def close(self) -> None:
        """Release connections."""


@dataclass(frozen=True)
class BatchState:
    """The state of a batch job.

    Attributes:
        phase: whether the job is still running, or how it ended. "running" stands for every state
            that the client doesn't know: the run's own deadline ends the waiting. "expired" is a
            job that ended before it was done: too old, or cancelled by us or by a person.
            "waiting" is a running job that the vendor hasn't taken on yet, "refused" one that it
            didn't take on because its queue is full: nothing was asked, and nothing is paid.
        name: the vendor's name for the state, for messages.
        results: the vendor's name of the file with the results, or "". An expired job may have
            some: they are paid for, and are collected.
        message: the vendor's error message, or "".
    """

    phase: Literal["waiting", "running", "succeeded", "expired", "failed", "refused"]
    name: str
    results: str = ""
    message: str = ""


class BatchClient(Protocol):
    """The batch jobs of one key. Every method may raise `ServiceError`."""

    def encode(self, request: Request) -> Mapping[str, Any]:
        """Return a request as it stands in a batch file."""

    def submit(self, label: str, lines: Path) -> str:
        """Upload a file of JSON lines ({"key", "request"}) and start a job; return its name.

        Raises:
            BatchQueueFullError: or `ThrottledError`, there is no room for it now.
        """

    def find(self, label: str) -> str:
        """Return the name of the job with this label, or "" if it was never created."""

    def state(self, name: str) -> BatchState:
        """Return the state of a job.

        Raises:
            UnknownModelError: HTTP 404, there is no such job (any more).
        """

    def cancel(self, name: str) -> None:
        """Ask the vendor to end a job. It may take a while, and `state` tells when it has ended."""

    def results(self, file: str) -> Iterator[tuple[str, Reply | ServiceError]]:
        """Yield the key and the reply (or the error) of each line of a file with results.

        Requests that an expired job didn't get to aren't yielded: they are asked again, and no
        image is to blame. The same holds for `UnknownParameterError`.

        Raises:
            ResultsGoneError: the vendor has deleted the file.
        """
