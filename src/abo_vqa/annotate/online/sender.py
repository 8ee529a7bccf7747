"""Requests about images, and the journal's entries of their replies."""

from __future__ import annotations

from dataclasses import replace

from abo_vqa.annotate.tasks import Task
from abo_vqa.data.archive import Archive
from abo_vqa.remote.budget import Budget
from abo_vqa.remote.contract import Reply, Request
from abo_vqa.remote.dispatch.queue import PendingRequest
from abo_vqa.remote.dispatch.sender import RequestSender
from abo_vqa.remote.journal import AnnotationJournal, JournalEntry
from abo_vqa.remote.ledger import Ledger


class TaskSender(RequestSender[Task]):
    """Sends requests for the pairs that images lack."""

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
        super().__init__(journal, ledger, budget)
        self._system, self._archive, self._image_size = system, archive, image_size

    def draft(self, item: Task) -> Request:
        """Return a task's request without the image, to estimate what it costs."""
        return item.request(self._system)

    def complete(self, pending: PendingRequest[Task]) -> Request:
        """Return the request with the image.

        Raises:
            ImageError: it can't be read.
        """
        image = self._archive.jpeg(pending.item.image_path, self._image_size)
        return replace(pending.request, image=image)

    def entry(self, item: Task, reply: Reply) -> JournalEntry:
        """Return a reply as the journal keeps it: with its pairs judged."""
        return item.entry(reply)
