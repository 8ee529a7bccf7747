"""Which images are still to be asked about: at once, later, or by a request on its way."""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field

from abo_vqa.annotate.online.sender import Outcome, PendingRequest
from abo_vqa.annotate.tasks import Task


@dataclass(order=True)
class _DelayedTask:
    """A task that waits until `due` (Unix seconds)."""

    due: float
    number: int
    task: Task = field(compare=False)


class TaskQueue:
    """The images of a run that aren't finished.

    Attributes:
        ready: tasks to send next, in this order.
        pending: requests on their way.
    """

    def __init__(self, tasks: Iterable[Task]) -> None:
        """Start with all tasks ready."""
        self.ready = deque(tasks)
        self.pending: dict[Future[Outcome], PendingRequest] = {}
        self._delayed: list[_DelayedTask] = []

    def __len__(self) -> int:
        return len(self.ready) + len(self._delayed) + len(self.pending)

    @property
    def delayed(self) -> list[Task]:
        """Tasks that wait before they are sent again."""
        return [item.task for item in self._delayed]

    def delay(self, task: Task, seconds: float) -> None:
        """Send a task again after a pause."""
        heapq.heappush(self._delayed, _DelayedTask(time.time() + seconds, id(task), task))

    def next_due(self, now: float) -> float | None:
        """Make due tasks ready; return when the next one is due, or None if none waits."""
        while self._delayed and self._delayed[0].due <= now:
            self.ready.append(heapq.heappop(self._delayed).task)
        return self._delayed[0].due if self._delayed else None
