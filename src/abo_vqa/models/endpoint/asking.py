"""Questions to a service: several at a time, up to its quota and within the budget."""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Mapping, MutableMapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING

from abo_vqa.core.errors import AboVqaError
from abo_vqa.core.log import get_logger
from abo_vqa.data.pairs import Pair
from abo_vqa.models.endpoint.stops import StopReasons
from abo_vqa.remote.backoff import backoff_seconds
from abo_vqa.remote.errors import (
    DailyQuotaError,
    InvalidKeyError,
    RequestRefusedError,
    ServiceError,
    ThrottledError,
    UnknownModelError,
)
from abo_vqa.remote.failure_streaks import MIN_STREAK, FailureStreak, error_kind
from abo_vqa.remote.journal import AnnotationJournal, JournalEntry, timestamp
from abo_vqa.remote.key_pool import ApiKey, KeyPool, Reservation

if TYPE_CHECKING:
    from abo_vqa.core.service_config import EndpointConfig
    from abo_vqa.remote.budget import Budget
    from abo_vqa.remote.contract import Request
    from abo_vqa.remote.health import ServiceHealth
    from abo_vqa.remote.ledger import Ledger

logger = get_logger(__name__)

_POLL_S = 0.5  # short, so that signals are noticed quickly


@dataclass
class _Question:
    """A question on its way to its answer: its key in the journal, and failed tries so far."""

    key: str
    request: Request
    tries: int = 0
    answers_before: int = 0  # answers to others when its first try failed


class QuestionRun:
    """Asks questions, with the journal, the ledger, the budget and the keys of a session."""

    def __init__(
        self,
        settings: EndpointConfig,
        journal: AnnotationJournal,
        ledger: Ledger,
        keys: KeyPool,
        budget: Budget,
        health: ServiceHealth,
        streak: FailureStreak,
    ) -> None:
        """Collect the parts.

        Args:
            settings: concurrency, attempts, patience.
            journal: takes replies.
            ledger: takes the end of each request.
            keys: reserves quota.
            budget: reserves money.
            health: whether the service answers at all.
            streak: failures in a row, which stop the run.
        """
        self._settings, self._journal, self._ledger = settings, journal, ledger
        self._keys, self._budget, self._health, self._streak = keys, budget, health, streak
        self._reasons = StopReasons(settings)
        self._accepted = False  # whether a key and the model have been
        self._stop: AboVqaError | None = None
        self._ready: deque[_Question] = deque()
        self._delayed: list[tuple[float, str, _Question]] = []
        self._pending: dict[Future[JournalEntry | ServiceError], tuple[_Question, ApiKey]] = {}
        self._errors: dict[str, str] = {}

    def ask(
        self, requests: Mapping[str, Request], replies: MutableMapping[str, JournalEntry]
    ) -> dict[str, str]:
        """Ask until each request has its reply or has failed for good.

        Args:
            requests: by their keys.
            replies: takes the replies, which are in the journal by then.

        Returns:
            Why requests failed, by their keys.

        Raises:
            UserError: see `PaidAnswers.ask`.
            RetryLaterError: likewise.
        """
        self._ready = deque(_Question(key, request) for key, request in requests.items())
        self._errors = {}
        with ThreadPoolExecutor(self._settings.concurrency) as pool:
            while self._pending or ((self._ready or self._delayed) and not self._stop):
                pause = min(self._submit(pool), _POLL_S)
                if not self._pending:
                    time.sleep(pause)
                    continue
                done, _ = wait(self._pending, pause, FIRST_COMPLETED)
                for future in done:
                    question, key = self._pending.pop(future)
                    outcome = future.result()
                    if isinstance(outcome, JournalEntry):
                        replies[question.key] = outcome
                        self._count_reply(question, key, outcome)
                    else:
                        self._handle_error(question, key, outcome)
        if self._stop:
            raise self._stop
        return self._errors

    def _submit(self, pool: ThreadPoolExecutor) -> float:
        """Submit what may be sent now; return the seconds until more may be sent."""
        now = time.time()
        while self._delayed and self._delayed[0][0] <= now:
            self._ready.append(heapq.heappop(self._delayed)[2])
        if self._health.paused_until > now:
            return self._health.paused_until - now
        while self._ready and not self._stop and len(self._pending) < self._max_pending:
            question = self._ready[0]
            reservation = self._reserve(question.request)
            if not isinstance(reservation, Reservation):
                return reservation
            self._ready.popleft()
            future = pool.submit(self._send, question, reservation)
            self._pending[future] = question, reservation.key
        return max(0.01, self._delayed[0][0] - now) if self._delayed else _POLL_S

    @property
    def _max_pending(self) -> int:
        """One until key and model are known to be accepted, few until there is an answer."""
        if not self._accepted:
            return 1
        if self._streak.successes:
            return self._settings.concurrency
        return min(self._settings.concurrency, max(1, MIN_STREAK - len(self._streak.kinds)))

    def _reserve(self, request: Request) -> Reservation | float:
        """Reserve money and quota for a request, or return the seconds until the next try."""
        cost = self._budget.max_cost(request)
        if not self._budget.allows(cost):
            if not self._pending:  # final
                self._stop = self._reasons.budget_exhausted(self._budget.committed)
            return _POLL_S
        result = self._keys.reserve(self._budget.estimator.estimate(request), cost)
        if isinstance(result, Reservation):
            return result
        if result.day:
            self._stop = self._reasons.daily_quota_spent(result.until, self._keys.quota_message)
        return max(0.01, result.until - time.time())

    def _send(self, question: _Question, reservation: Reservation) -> JournalEntry | ServiceError:
        """Send one request in a worker thread; its reply is on disk when this returns."""
        try:
            reply = reservation.key.client.generate(question.request)
        except ServiceError as error:
            self._ledger.finish(reservation.call, cost_known=not error.billed)
            return error
        text, asked = " ".join(reply.text.split()), question.request.text
        entry = JournalEntry(
            asked,
            question.key,
            (Pair(asked, text),) if text else (),
            finish=reply.finish,
            problem=f"blocked: {reply.blocked}" if reply.blocked else "",
            usage=reply.usage,
            model=reply.model,
            time=timestamp(),
        )
        self._journal.append(entry)
        self._budget.record(entry)
        self._ledger.finish(reservation.call, reply.usage.input or None)
        return entry

    def _count_reply(self, question: _Question, key: ApiKey, entry: JournalEntry) -> None:
        self._accepted = True
        key.throttles = 0
        self._health.record_answer()
        self._budget.estimator.update(question.request, entry.usage.input)
        if entry.pairs:
            self._streak.record_success()
        else:
            self._count_failure(question, entry.problem or entry.finish)

    def _handle_error(self, question: _Question, key: ApiKey, error: ServiceError) -> None:
        """Decide whether a question is asked again, its key used again, the run continued."""
        if isinstance(error, UnknownModelError):
            self._stop = self._reasons.unknown_model(error)
            return
        if isinstance(error, InvalidKeyError):
            self._ready.appendleft(question)
            if self._keys.remove(key) and not self._keys.keys:
                self._stop = self._reasons.no_usable_key(error)
            elif not self._stop:
                logger.warning(f"key number {key.number} is left out: {error}")
            return
        self._accepted = True
        if isinstance(error, (ThrottledError, DailyQuotaError)):
            self._ready.appendleft(question)
            self._keys.pause(key, error)
        elif isinstance(error, RequestRefusedError):
            self._errors[question.key] = str(error)
            self._count_failure(question, error_kind(str(error)))
            return
        else:
            self._retry(question, error)
        if self._health.patience_exhausted and not self._stop:
            self._stop = self._reasons.no_answer(error)

    def _retry(self, question: _Question, error: ServiceError) -> None:
        """Ask again after a pause; give up once others were answered meanwhile."""
        if not question.tries:
            question.answers_before = self._health.answers
        question.tries += 1
        self._health.record_failure()
        others_answered = self._health.answers > question.answers_before
        if question.tries >= self._settings.attempts and others_answered:
            self._errors[question.key] = str(error)
            self._count_failure(question, error_kind(str(error)))
            return
        due = time.time() + max(error.delay or 0, backoff_seconds(question.tries))
        heapq.heappush(self._delayed, (due, question.key, question))

    def _count_failure(self, question: _Question, kind: str) -> None:
        """Count a row without an answer; too many alike stop the run."""
        self._streak.record_failure(question.key, kind)
        if self._streak.is_systematic and not self._stop:
            self._stop = self._reasons.all_failed(len(self._streak.kinds), kind)
