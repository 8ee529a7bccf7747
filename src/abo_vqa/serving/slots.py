"""How many requests are in the server at once, and which of them still wait for an answer.

The front end takes a slot for each request and frees it when the client has its answer, has left,
or has waited long enough. The processes with the models share the table: they skip what nobody
waits for any more.
"""

from __future__ import annotations

import multiprocessing
from dataclasses import dataclass


@dataclass(frozen=True)
class Ticket:
    """A taken slot.

    Attributes:
        slot: its position.
        number: tells this use of the slot from others.
    """

    slot: int
    number: int


class Slots:
    """A table of slots in memory that processes share.

    Args:
        capacity: how many there are.
    """

    def __init__(self, capacity: int) -> None:
        # Only one process writes, 8 bytes at a time: no lock.
        self._numbers = multiprocessing.get_context("spawn").RawArray("Q", capacity)
        self._free = list(range(capacity))
        self._issued = 0
        self.capacity = capacity

    @property
    def used(self) -> int:
        """How many slots are taken."""
        return self.capacity - len(self._free)

    def take(self) -> Ticket | None:
        """Take a slot; None if there is no free one."""
        if not self._free:
            return None
        slot = self._free.pop()
        self._issued += 1
        self._numbers[slot] = self._issued
        return Ticket(slot, self._issued)

    def release(self, ticket: Ticket) -> None:
        """Free a slot.

        Args:
            ticket: what `take` returned.
        """
        self._numbers[ticket.slot] = 0
        self._free.append(ticket.slot)

    def is_waiting(self, ticket: Ticket) -> bool:
        """Return whether somebody still waits for a request's answer.

        Args:
            ticket: the request's.
        """
        return bool(self._numbers[ticket.slot] == ticket.number)
