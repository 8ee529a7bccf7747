"""A request on its way, the key that it is sent with, and what its reply becomes."""

from __future__ import annotations

from dataclasses import dataclass, field

from abo_vqa.annotate.gate import Gate
from abo_vqa.annotate.prompt import parse
from abo_vqa.annotate.tasks import Task
from abo_vqa.data.image_files import ImageError
from abo_vqa.remote.contract import Annotator, Reply, Request
from abo_vqa.remote.errors import ServiceError
from abo_vqa.remote.journal import Entry, now


@dataclass
class Key:
    """One API key at work. `number` is what messages call it; `name` is the ledger's."""

    number: int
    name: str
    annotator: Annotator
    throttled: int = 0  # in a row; requests that were on their way together count once
    paused_until: float = 0.0


@dataclass
class Flight:
    """A request on its way.

    Attributes:
        text: the request without the picture. sent, ended: Unix seconds.
        said: the reply's text.
    """

    task: Task
    key: Key
    call: int
    text: Request
    sent: float = 0.0
    ended: float = 0.0
    said: str = ""


Outcome = Entry | ServiceError | ImageError


@dataclass(order=True)
class Later:
    """A task that waits until `at` (Unix seconds)."""

    at: float
    number: int
    task: Task = field(compare=False)


def to_entry(task: Task, reply: Reply, gate: Gate, price: float = 1.0, job: str = "") -> Entry:
    """A reply as the journal keeps it."""
    accepted, rejects = gate.sift(parse(reply.text), task.product, task.pairs)
    return Entry(
        task.path,
        task.key,
        tuple(accepted),
        tuple(rejects),
        finish=reply.finish,
        problem=f"blocked: {reply.blocked}" if reply.blocked else "",
        usage=reply.usage,
        price=price,
        model=reply.model,
        time=now(),
        job=job,
    )
