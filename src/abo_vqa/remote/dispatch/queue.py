"""What is still to be sent: at once, later, or on its way."""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from abo_vqa.data.image_files import ImageError
from abo_vqa.remote.contract import Request
from abo_vqa.remote.errors import ServiceError
from abo_vqa.remote.journal import JournalEntry
from abo_vqa.remote.key_pool import Reservation

Outcome = JournalEntry | ServiceError | ImageError
"""What a request ended with: its entry in the journal, or why there is none."""


class Item(Protocol):
    """What is asked about.

    Attributes:
        failed_tries: failed requests since the last reply or recorded failure.
        answers_before: replies to all items when the first of those tries failed.
    """

    failed_tries: int
    answers_before: int


ItemT = TypeVar("ItemT", bound=Item)


@dataclass
class PendingRequest(Generic[ItemT]):
    """A request on its way.

    Attributes:
        item: what it is about.
        reservation: the key that it is sent with, and its place in the quota.
        request: the request, perhaps without its image.
        sent: Unix seconds; 0 before.
        ended: Unix seconds; 0 before.
        reply_text: the reply's text.
    """

    item: ItemT
    reservation: Reservation
    request: Request
    sent: float = 0.0
    ended: float = 0.0
    reply_text: str = ""


@dataclass(order=True)
class _DelayedItem(Generic[ItemT]):
    """An item that waits until `due` (Unix seconds)."""

    due: float
    number: int
    item: ItemT = field(compare=False)


class RequestQueue(Generic[ItemT]):
    """The items of a run that aren't finished.

    Attributes:
        ready: items to send next, in this order.
        pending: requests on their way.
    """

    def __init__(self, items: Iterable[ItemT] = ()) -> None:
        """Start with all items ready."""
        self.ready = deque(items)
        self.pending: dict[Future[Outcome], PendingRequest[ItemT]] = {}
        self._delayed: list[_DelayedItem[ItemT]] = []

    def __len__(self) -> int:
        return len(self.ready) + len(self._delayed) + len(self.pending)

    @property
    def delayed(self) -> list[ItemT]:
        """Items that wait before they are sent again."""
        return [delayed.item for delayed in self._delayed]

    def delay(self, item: ItemT, seconds: float) -> None:
        """Send an item again after a pause."""
        heapq.heappush(self._delayed, _DelayedItem(time.time() + seconds, id(item), item))

    def next_due(self, now: float) -> float | None:
        """Make due items ready; return when the next one is due, or None if none waits."""
        while self._delayed and self._delayed[0].due <= now:
            self.ready.append(heapq.heappop(self._delayed).item)
        return self._delayed[0].due if self._delayed else None
