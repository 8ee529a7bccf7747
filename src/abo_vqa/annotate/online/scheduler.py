"""Scheduling: images are asked about until each has its pairs or is left out."""

from __future__ import annotations

import time

from abo_vqa.annotate.control import ControlRequest
from abo_vqa.annotate.online.failure_policy import FailurePolicy
from abo_vqa.annotate.online.sender import TaskSender
from abo_vqa.annotate.progress import Progress
from abo_vqa.annotate.tasks import Task
from abo_vqa.remote.budget import Budget
from abo_vqa.remote.dispatch.dispatcher import POLL_S, Dispatcher
from abo_vqa.remote.dispatch.queue import Outcome, PendingRequest, RequestQueue
from abo_vqa.remote.errors import UnknownParameterError
from abo_vqa.remote.key_pool import KeyPool, Reservation


class Scheduler(Dispatcher[Task]):
    """Sends the requests of one annotation, several at a time."""

    def __init__(
        self,
        queue: RequestQueue[Task],
        sender: TaskSender,
        control: ControlRequest,
        policy: FailurePolicy,
        keys: KeyPool,
        budget: Budget,
        concurrency: int,
        progress: Progress,
    ) -> None:
        """Collect the parts of a run.

        Args:
            queue: the images.
            sender: sends requests.
            control: decides about refusals that no later request can be compared with.
            policy: decides about their outcomes.
            keys: reserves quota.
            budget: reserves money.
            concurrency: requests on their way at most.
            progress: see `Progress`.
        """
        super().__init__(queue, sender, policy, keys, budget, concurrency)
        self._failures, self._control, self._progress = policy, control, progress

    def _settle(self, pending: PendingRequest[Task], outcome: Outcome) -> None:
        super()._settle(pending, outcome)
        self._progress(self._failures.open_images, self._budget.cost)

    def _show_wait(self, reason: str) -> None:
        """Show it in the progress bar."""
        self._progress.show_wait(reason)

    def _finish(self) -> None:
        """Decide about refusals that no later request can be compared with."""
        answered = not self._failures.needs_control or self._control_answered()
        self._failures.decide_refusals(answered)

    def _control_answered(self) -> bool:
        """Return whether the control request is answered now."""
        request = self._control.draft
        while not self._failures.is_stopping:
            reservation = self._reserve(request)
            if isinstance(reservation, Reservation):
                error = self._control.send(reservation)
                if isinstance(error, UnknownParameterError):
                    continue  # the next request leaves it out
                if error:
                    self._failures.control_failed(reservation.key, error)
                return error is None
            if not self._failures.is_stopping:
                time.sleep(min(POLL_S, reservation))
        return False
