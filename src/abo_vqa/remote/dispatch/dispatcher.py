"""Dispatching: what is sent next, and when.

One thread decides what is sent and when; worker threads send, judge the reply and write it into the
journal. Whatever a later run must know is in the journal and the ledger before it counts, so there
is nothing left to save at the end.
"""

from __future__ import annotations

import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import Generic

from abo_vqa.remote.budget import Budget
from abo_vqa.remote.contract import Request
from abo_vqa.remote.dispatch.policy import OutcomePolicy
from abo_vqa.remote.dispatch.queue import ItemT, Outcome, PendingRequest, RequestQueue
from abo_vqa.remote.dispatch.sender import RequestSender
from abo_vqa.remote.dispatch.signals import stop_on_signals
from abo_vqa.remote.journal import JournalEntry
from abo_vqa.remote.key_pool import KeyPool, Reservation

POLL_S = 0.5  # short, so that signals are noticed quickly
_MIN_PAUSE_S = 0.01
_SHOWN_WAIT_S = 3.0  # a wait for quota that the progress bar explains


class Dispatcher(Generic[ItemT]):
    """Sends the requests of a run, several at a time."""

    def __init__(
        self,
        queue: RequestQueue[ItemT],
        sender: RequestSender[ItemT],
        policy: OutcomePolicy[ItemT],
        keys: KeyPool,
        budget: Budget,
        concurrency: int,
    ) -> None:
        """Collect the parts.

        Args:
            queue: what is to be sent.
            sender: sends requests.
            policy: decides about their outcomes.
            keys: reserves quota.
            budget: reserves money.
            concurrency: requests on their way at most.
        """
        self._queue, self._sender, self._policy = queue, sender, policy
        self._keys, self._budget, self._concurrency = keys, budget, concurrency

    def run(self) -> None:
        """Send until every item is finished.

        Raises:
            RetryLaterError: daily quotas are spent, or the service doesn't answer.
            UserError: no usable key, no such model, item after item fails alike, or the budget is
                used up.
            KeyboardInterrupt: once the replies on their way are saved.
            TerminatedError: after SIGTERM, once the replies on their way are saved.
        """
        queue, policy = self._queue, self._policy
        policy.health.restart_clock()
        with stop_on_signals(policy.request_stop):
            with ThreadPoolExecutor(self._concurrency) as pool:
                while queue.pending or (len(queue) and not policy.is_stopping):
                    pause = min(self._submit(pool), POLL_S)
                    if not queue.pending:
                        time.sleep(pause)
                        continue
                    done, _ = wait(queue.pending, pause, FIRST_COMPLETED)
                    for future in sorted(done, key=lambda future: queue.pending[future].ended):
                        self._settle(queue.pending.pop(future), future.result())
            if not policy.is_stopping:
                self._finish()
        policy.raise_if_stopping()

    def _settle(self, pending: PendingRequest[ItemT], outcome: Outcome) -> None:
        """Take a request's outcome into account."""
        self._policy.handle(pending, outcome)
        if isinstance(outcome, JournalEntry):
            self._budget.estimator.update(pending.request, outcome.usage)

    def _finish(self) -> None:
        """Do what is left once every item has its outcome: nothing."""

    def _show_wait(self, _reason: str) -> None:
        """Show what nothing is sent for, or "" if something is: nowhere."""

    def _submit(self, pool: ThreadPoolExecutor) -> float:
        """Submit what may be sent now; return the seconds until more may be sent."""
        queue, policy = self._queue, self._policy
        now = time.time()
        due = queue.next_due(now)
        while queue.ready and not policy.is_stopping and self._has_capacity():
            if policy.health.paused_until > now:
                self._check_wait(policy.health.paused_until)
                return policy.health.paused_until - now
            item = queue.ready[0]
            request = self._sender.draft(item)
            reservation = self._reserve(request)
            if not isinstance(reservation, Reservation):
                return reservation
            queue.ready.popleft()
            pending = PendingRequest(item, reservation, request)
            queue.pending[pool.submit(self._sender.send, pending)] = pending
        if due and not queue.ready:
            self._check_wait(due)
        return max(_MIN_PAUSE_S, due - now) if due else POLL_S

    def _check_wait(self, until: float) -> None:
        """Have the policy decide whether to wait, if nothing can be sent before `until`."""
        if not self._queue.pending:
            self._policy.check_wait(until)

    def _has_capacity(self) -> bool:
        return len(self._queue.pending) < self._policy.max_pending(self._concurrency)

    def _reserve(self, request: Request) -> Reservation | float:
        """Reserve money and quota for a request, or return the seconds until the next try."""
        cost = self._budget.max_cost(request)
        if not self._budget.allows(cost):
            if self._budget.limit is not None and not self._queue.pending:  # final
                self._policy.budget_exhausted(self._budget.limit, self._budget.committed)
            return POLL_S
        result = self._keys.reserve(self._budget.estimator.estimate(request), cost)
        if isinstance(result, Reservation):
            self._show_wait("")
            return result
        if result.day:
            self._policy.daily_quota_spent(result.until)
            return _MIN_PAUSE_S
        pause = max(_MIN_PAUSE_S, result.until - time.time())
        if pause > _SHOWN_WAIT_S:
            self._show_wait(f"waiting for {result.quota or 'the service'}")
        return pause
