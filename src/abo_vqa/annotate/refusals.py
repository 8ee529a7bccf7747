"""Refused requests whose fault isn't clear yet: the picture's, or everybody's."""

from __future__ import annotations

import io
from dataclasses import dataclass, field

from abo_vqa.annotate.tasks import Task
from abo_vqa.remote.errors import RequestRefusedError
from abo_vqa.remote.journal import DROPPED, Entry
from abo_vqa.remote.streaks import Streak, gist

_CONTROL = {
    "image_path": "",
    "name": "plain grey square",
    "product_type": "control",
    "color": "grey",
}
_SIDE = 64  # pixels of the control's picture


@dataclass(frozen=True)
class Refusal:
    """A refused task, the vendor's words, and when (Unix seconds) they came."""

    task: Task
    message: str
    at: float

    def entry(self, *, chosen: bool = False) -> Entry:
        """What keeps the picture from being asked about again."""
        problem = f"{DROPPED}: {self.message}" if chosen else f"refused: {self.message}"
        return Entry(self.task.path, self.task.key, problem=problem, time=round(self.at, 3))


@dataclass
class Refusals:
    """Refusals until it is proven that they are the pictures' own."""

    pending: list[Refusal] = field(default_factory=list)
    streak: Streak = field(default_factory=Streak)

    def add(self, task: Task, error: RequestRefusedError, at: float) -> None:
        self.pending.append(Refusal(task, str(error), at))
        self.streak.failure(task.path, gist(str(error)))

    def answered(self, sent: float) -> list[Refusal]:
        """Take out what an answer proves: that who asked then was served.

        Args:
            sent: when the answered request was sent. Requests on their way when an account is
                shut out may still be answered, and prove nothing about later refusals.
        """
        self.streak.success()
        proven = [refusal for refusal in self.pending if refusal.at <= sent]
        self.pending = [refusal for refusal in self.pending if refusal.at > sent]
        return proven

    def take(self) -> list[Refusal]:
        """Take out all."""
        taken, self.pending = self.pending, []
        return taken


def control_task() -> Task:
    """A request that any service in order answers: if it is refused, it isn't the pictures."""
    return Task(dict(_CONTROL), "control", "")


def control_picture() -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (_SIDE, _SIDE), (128, 128, 128)).save(out, "JPEG")
    return out.getvalue()
