"""Scheduling: which image is asked about next, and when.

One thread decides what is sent and when; worker threads send, judge the reply and write it into the
journal. Whatever a later run must know is in the journal and the ledger before it counts, so there
is nothing left to save at the end.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager

from abo_vqa.annotate.control import ControlRequest
from abo_vqa.annotate.online.failure_policy import FailurePolicy
from abo_vqa.annotate.online.sender import Outcome, PendingRequest, RequestSender
from abo_vqa.annotate.online.task_queue import TaskQueue
from abo_vqa.annotate.progress import Progress
from abo_vqa.core.errors import TerminatedError
from abo_vqa.remote.budget import Budget
from abo_vqa.remote.contract import Request
from abo_vqa.remote.journal import JournalEntry
from abo_vqa.remote.key_pool import KeyPool, Reservation

_POLL_S = 0.5  # short, so that signals are noticed quickly
_MIN_PAUSE_S = 0.01


class Scheduler:
    """Sends the requests of one run, several at a time."""

    def __init__(
        self,
        queue: TaskQueue,
        sender: RequestSender,
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
        self._queue, self._sender, self._policy = queue, sender, policy
        self._control, self._keys, self._budget = control, keys, budget
        self._concurrency, self._progress = concurrency, progress

    def run(self) -> None:
        """Send until every task is complete or dropped.

        Raises:
            RetryLaterError: daily quotas are spent, or the service doesn't answer.
            UserError: no usable key, no such model, image after image fails alike, or the budget
                is used up.
            KeyboardInterrupt: once the replies on their way are saved.
            TerminatedError: after SIGTERM, once the replies on their way are saved.
        """
        queue, policy = self._queue, self._policy
        with _stop_on_signals(policy), ThreadPoolExecutor(self._concurrency) as pool:
            while queue.pending or (len(queue) and not policy.is_stopping):
                pause = min(self._submit(pool), _POLL_S)
                if not queue.pending:
                    time.sleep(pause)
                    continue
                done, _ = wait(queue.pending, pause, FIRST_COMPLETED)
                for future in sorted(done, key=lambda future: queue.pending[future].ended):
                    self._settle(queue.pending.pop(future), future.result())
        if not policy.is_stopping:
            answered = not policy.needs_control or self._control_answered()
            policy.decide_refusals(answered)
        policy.raise_if_stopping()

    def _settle(self, pending: PendingRequest, outcome: Outcome) -> None:
        self._policy.handle(pending, outcome)
        if isinstance(outcome, JournalEntry):
            self._budget.estimator.update(pending.request, outcome.usage.input)
        self._progress(self._policy.open_images, self._budget.cost)

    def _submit(self, pool: ThreadPoolExecutor) -> float:
        """Submit what may be sent now; return the seconds until more may be sent."""
        queue, policy = self._queue, self._policy
        now = time.time()
        due = queue.next_due(now)
        while queue.ready and not policy.is_stopping and self._has_capacity():
            if policy.health.paused_until > now:
                return policy.health.paused_until - now
            task = queue.ready[0]
            request = self._sender.draft(task)
            reservation = self._reserve(request)
            if not isinstance(reservation, Reservation):
                return reservation
            queue.ready.popleft()
            pending = PendingRequest(task, reservation, request)
            queue.pending[pool.submit(self._sender.send, pending)] = pending
        return max(_MIN_PAUSE_S, due - now) if due else _POLL_S

    def _has_capacity(self) -> bool:
        return len(self._queue.pending) < self._policy.max_pending(self._concurrency)

    def _reserve(self, request: Request) -> Reservation | float:
        """Reserve money and quota for a request, or return the seconds until the next try."""
        cost = self._budget.max_cost(request)
        if not self._budget.allows(cost):
            if self._budget.limit is not None and not self._queue.pending:  # final
                self._policy.budget_exhausted(self._budget.limit, self._budget.committed)
            return _POLL_S
        result = self._keys.reserve(self._budget.estimator.estimate(request), cost)
        if isinstance(result, Reservation):
            return result
        if result.day:
            self._policy.daily_quota_spent(result.until)
            return _MIN_PAUSE_S
        return max(_MIN_PAUSE_S, result.until - time.time())

    def _control_answered(self) -> bool:
        """Return whether the control request is answered now."""
        request = self._control.draft
        while not self._policy.is_stopping:
            reservation = self._reserve(request)
            if isinstance(reservation, Reservation):
                error = self._control.send(reservation)
                if error:
                    self._policy.control_failed(reservation.key, error)
                return error is None
            if not self._policy.is_stopping:
                time.sleep(min(_POLL_S, reservation))
        return False


@contextmanager
def _stop_on_signals(policy: FailurePolicy) -> Iterator[None]:
    """Turn the first Ctrl-C or SIGTERM into a stop that waits for the replies on their way."""
    interrupted = False

    def interrupt(*_: object) -> None:
        nonlocal interrupted
        if interrupted:
            raise KeyboardInterrupt
        interrupted = True
        policy.request_stop(KeyboardInterrupt)

    def terminate(*_: object) -> None:
        policy.request_stop(
            lambda: TerminatedError("everything is saved; run it again to continue")
        )

    try:
        previous = {
            signal.SIGINT: signal.signal(signal.SIGINT, interrupt),
            signal.SIGTERM: signal.signal(signal.SIGTERM, terminate),
        }
    except ValueError:  # not the main thread: the caller handles signals
        yield
        return
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
