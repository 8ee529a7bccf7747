"""Sending: a request, its reply, and their traces in the journal, the budget and the ledger."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from abo_vqa.annotate.tasks import Task
from abo_vqa.data.archive import Archive
from abo_vqa.data.image_files import ImageError
from abo_vqa.remote.budget import Budget
from abo_vqa.remote.contract import Request
from abo_vqa.remote.errors import ServiceError
from abo_vqa.remote.journal import AnnotationJournal, JournalEntry
from abo_vqa.remote.key_pool import Reservation
from abo_vqa.remote.ledger import Ledger

Outcome = JournalEntry | ServiceError | ImageError
"""What a request ended with: its entry in the journal, or why there is none."""


@dataclass
class PendingRequest:
    """A request on its way.

    Attributes:
        task: the image that it is about.
        reservation: the key that it is sent with, and its place in the quota.
        request: the request without the image.
        sent: Unix seconds; 0 before.
        ended: Unix seconds; 0 before.
        reply_text: the reply's text.
    """

    task: Task
    reservation: Reservation
    request: Request
    sent: float = 0.0
    ended: float = 0.0
    reply_text: str = ""


class RequestSender:
    """Sends requests. `send` runs in worker threads."""

    def __init__(
        self,
        system: str,
        archive: Archive,
        image_size: int,
        journal: AnnotationJournal,
        ledger: Ledger,
        budget: Budget,
    ) -> None:
        """Collect what a request consists of and where its traces go.

        Args:
            system: the instruction, the same for all images.
            archive: where the images are read from.
            image_size: pixels per side, at most.
            journal: takes the replies.
            ledger: takes the end of each request.
            budget: takes what replies cost.
        """
        self._system, self._archive, self._image_size = system, archive, image_size
        self._journal, self._ledger, self._budget = journal, ledger, budget

    def draft(self, task: Task) -> Request:
        """Return a task's request without the image, to estimate what it costs."""
        return task.request(self._system)

    def send(self, pending: PendingRequest) -> Outcome:
        """Send one request; its reply is on disk when this returns."""
        try:
            return self._send(pending)
        finally:
            pending.ended = time.time()

    def _send(self, pending: PendingRequest) -> Outcome:
        task, call = pending.task, pending.reservation.call
        try:
            image = self._archive.jpeg(task.image_path, self._image_size)
        except ImageError as error:
            self._ledger.finish(call)
            return error
        draft = pending.request
        pending.sent = time.time()
        try:
            reply = pending.reservation.key.client.generate(replace(draft, image=image))
        except ServiceError as error:
            self._ledger.finish(call, cost_known=not error.billed)
            return error
        pending.reply_text = reply.text
        entry = task.entry(reply)
        self._journal.append(entry)
        self._budget.record(entry)  # before the reservation ends: see `Budget.committed`
        self._ledger.finish(call, reply.usage.input or None)
        return entry
