"""Sending: a request, its reply, and their traces in the journal, the budget and the ledger."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import Generic

from abo_vqa.data.image_files import ImageError
from abo_vqa.remote.budget import Budget
from abo_vqa.remote.contract import Reply, Request
from abo_vqa.remote.dispatch.queue import ItemT, Outcome, PendingRequest
from abo_vqa.remote.errors import ServiceError
from abo_vqa.remote.journal import AnnotationJournal, JournalEntry
from abo_vqa.remote.ledger import Ledger


class RequestSender(ABC, Generic[ItemT]):
    """Sends requests. `send` runs in worker threads."""

    def __init__(self, journal: AnnotationJournal, ledger: Ledger, budget: Budget) -> None:
        """Take over where the traces of requests go.

        Args:
            journal: takes the replies.
            ledger: takes the end of each request.
            budget: takes what replies cost.
        """
        self._journal, self._ledger, self._budget = journal, ledger, budget

    @abstractmethod
    def draft(self, item: ItemT) -> Request:
        """Return an item's request, perhaps without the image, to estimate what it costs."""

    def complete(self, pending: PendingRequest[ItemT]) -> Request:
        """Return the request as it is sent.

        Raises:
            ImageError: its image can't be read.
        """
        return pending.request

    @abstractmethod
    def entry(self, item: ItemT, reply: Reply) -> JournalEntry:
        """Return a reply as the journal keeps it."""

    def send(self, pending: PendingRequest[ItemT]) -> Outcome:
        """Send one request; its reply is on disk when this returns."""
        try:
            return self._send(pending)
        finally:
            pending.ended = time.time()

    def _send(self, pending: PendingRequest[ItemT]) -> Outcome:
        call = pending.reservation.call
        try:
            request = self.complete(pending)
        except ImageError as error:
            self._ledger.finish(call)
            return error
        pending.sent = time.time()
        try:
            reply = pending.reservation.key.client.generate(request)
        except ServiceError as error:
            self._ledger.finish(call, cost_known=not error.billed)
            return error
        pending.reply_text = reply.text
        reply = self._budget.bound_usage(reply, pending.request)
        entry = self.entry(pending.item, reply)
        self._journal.append(entry)
        self._budget.record(entry)  # before the reservation ends: see `Budget.committed`
        counted = pending.reservation.quota_tokens(reply.usage)
        self._ledger.finish(call, counted, sent=pending.sent)
        return entry
