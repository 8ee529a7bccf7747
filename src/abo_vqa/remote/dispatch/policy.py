"""Policy: what an outcome means for its item, its key and the run, and when the run must stop."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic

from abo_vqa.core.log import get_logger
from abo_vqa.data.image_files import ImageError
from abo_vqa.remote.backoff import backoff_seconds
from abo_vqa.remote.dispatch.queue import ItemT, Outcome, PendingRequest, RequestQueue
from abo_vqa.remote.dispatch.stop_reasons import StopReasons
from abo_vqa.remote.errors import (
    DailyQuotaError,
    InvalidKeyError,
    RefusedThinkingError,
    RequestRefusedError,
    ServiceError,
    ThrottledError,
    UnknownModelError,
    UnknownParameterError,
    UnreachableError,
)
from abo_vqa.remote.health import ServiceHealth
from abo_vqa.remote.journal import JournalEntry
from abo_vqa.remote.key_pool import ApiKey, KeyPool

if TYPE_CHECKING:
    from abo_vqa.core.service_config import ServiceConfig

logger = get_logger(__name__)

# Outcomes after which it isn't known whether the service takes the key and the model.
_PROVES_NOTHING = (
    ImageError,
    InvalidKeyError,
    UnknownModelError,
    UnknownParameterError,
    UnreachableError,
)
_MAX_UNREACHABLE = 15  # tries in a row at an address where there never was a server
_LONG_WAIT_S = 20.0  # a wait that a user wonders about


class OutcomePolicy(ABC, Generic[ItemT]):
    """Decides about outcomes; a subclass knows what becomes of replies and failures.

    Attributes:
        health: whether the service answers at all.
    """

    def __init__(
        self,
        settings: ServiceConfig,
        queue: RequestQueue[ItemT],
        keys: KeyPool,
        reasons: StopReasons,
    ) -> None:
        """Start without failures.

        Args:
            settings: patience and attempts.
            queue: takes items that are asked about again.
            keys: loses keys that can't be used.
            reasons: words why the run stops.
        """
        self._stop_reason: Callable[[], BaseException] | None = None
        self._accepted = False  # whether a key and the model have been
        self.health = ServiceHealth(settings.patience_s)
        self._attempts, self._patience_s = settings.attempts, settings.patience_s
        self._last_error: ServiceError | None = None
        self._announced = 0.0  # until when the last announced wait lasts, in Unix seconds
        self._queue, self._keys, self._reasons = queue, keys, reasons

    @property
    @abstractmethod
    def _progress(self) -> str:
        """How far the run is, as a clause: "everything is saved"."""

    @abstractmethod
    def _handle_reply(self, pending: PendingRequest[ItemT], entry: JournalEntry) -> None:
        """Decide about an item that has a reply."""

    @abstractmethod
    def _handle_refusal(self, pending: PendingRequest[ItemT], error: RequestRefusedError) -> None:
        """Decide about an item whose request was refused."""

    @abstractmethod
    def _record_failure(self, item: ItemT, error: ServiceError) -> bool:
        """Record that an item has failed `attempts` times; return whether to ask again."""

    @abstractmethod
    def _max_unproven(self, concurrency: int) -> int:
        """Return how many requests may be on their way until replies have proved useful."""

    def _handle_unreadable(self, _item: ItemT, error: ImageError) -> None:
        """Decide about an item whose image can't be read. Senders that read none raise none."""
        raise error

    def request_stop(self, reason: Callable[[], BaseException]) -> None:
        """Send no more; the latest reason counts.

        Args:
            reason: returns the error that ends the run. It is called once the requests on their
                way have ended, so that it counts the open items correctly.
        """
        self._stop_reason = reason

    @property
    def is_stopping(self) -> bool:
        """Whether no more is sent."""
        return self._stop_reason is not None

    def raise_if_stopping(self) -> None:
        """Raise the error that ends the run, if it was asked to stop."""
        if self._stop_reason:
            raise self._stop_reason()

    def max_pending(self, concurrency: int) -> int:
        """Return how many requests may be on their way.

        One until the key and the model are known to be accepted: if not, nothing else is asked.
        """
        return self._max_unproven(concurrency) if self._accepted else 1

    def handle(self, pending: PendingRequest[ItemT], outcome: Outcome) -> None:
        """Decide whether an item is asked about again, its key used again, the run continued."""
        item, key = pending.item, pending.reservation.key
        if not isinstance(outcome, _PROVES_NOTHING):
            self._accepted = True
        if isinstance(outcome, ImageError):
            self._handle_unreadable(item, outcome)
        elif isinstance(outcome, JournalEntry):
            self.health.record_answer()
            key.throttles = item.failed_tries = 0
            self._handle_reply(pending, outcome)
        elif isinstance(outcome, (ThrottledError, DailyQuotaError)):
            self._queue.ready.appendleft(item)
            if self._keys.pause(key, outcome):
                self._check_patience(outcome)
        elif isinstance(outcome, UnknownParameterError):
            self._queue.ready.appendleft(item)  # the next request leaves it out
        elif isinstance(outcome, InvalidKeyError):
            self.remove_key(key, outcome)
            self._queue.ready.appendleft(item)
        elif isinstance(outcome, UnknownModelError):
            self.request_stop(lambda: self._reasons.unknown_model(outcome))
        elif isinstance(outcome, RefusedThinkingError):
            self._queue.ready.appendleft(item)
            self.request_stop(lambda: self._reasons.refused_thinking(outcome, self._progress))
        elif isinstance(outcome, RequestRefusedError):
            self._handle_refusal(pending, outcome)
        else:
            self._handle_failure(item, outcome)

    def _handle_failure(self, item: ItemT, error: ServiceError) -> None:
        """Handle a server error, a timeout or a dropped connection: try again, up to a limit.

        Failures count against the item once others were answered meanwhile. Until then it may be
        an outage, which is no item's fault, and which `_check_patience` ends.
        """
        if item.failed_tries == 0:
            item.answers_before = self.health.answers
        item.failed_tries += 1
        again = True
        if self._has_failed(item) and self.health.answers > item.answers_before:
            again = self._record_failure(item, error)
        if again:
            pause = max(error.delay or 0, backoff_seconds(item.failed_tries))
            self._queue.delay(item, pause)
        self._record_failed_request(error)
        nothing_there = isinstance(error, UnreachableError) and not self.health.answers
        tried = self.health.failures_in_a_row >= _MAX_UNREACHABLE or self._has_failed(item)
        if nothing_there and tried:
            self.request_stop(lambda: self._reasons.no_connection(error, self._progress))
        self._check_patience(error)

    def _record_failed_request(self, error: ServiceError) -> None:
        """Warn at the first failure, since nothing may work, and where an outage begins."""
        first = self._last_error is None and not self.health.answers
        self._last_error = error
        self.health.record_failure(error.delay)
        if first or self.health.starts_outage:
            logger.warning(
                f"{self._reasons.label}no answer: {error}. Trying again, for at most "
                f"{self._patience_s:g} s without any reply."
            )

    def check_wait(self, until: float) -> None:
        """Stop if failed requests would have to wait for too long. Nothing else can be sent.

        Args:
            until: when something can be sent again, in Unix seconds.
        """
        error = self._last_error
        if error is None or self.is_stopping:
            return
        wait = until - time.time()
        if wait > self._patience_s:
            self._record_failed_items(error)
            self.request_stop(lambda: self._reasons.no_answer_before(until, error, self._progress))
        elif wait > _LONG_WAIT_S and until > self._announced:
            self._announced = until
            logger.warning(f"{self._reasons.label}waiting for {wait:.0f} s: {error}")
        self._check_patience(error)

    def _has_failed(self, item: ItemT) -> bool:
        return item.failed_tries >= self._attempts

    def _check_patience(self, error: ServiceError) -> None:
        """Stop if there has been no answer for too long."""
        if not self.health.patience_exhausted or self.is_stopping:
            return
        self._record_failed_items(error)
        self.request_stop(lambda: self._reasons.no_answer(error, self._progress))

    def _record_failed_items(self, error: ServiceError) -> None:
        """Count the run's end against items that failed in it: some may always fail."""
        for item in self._queue.delayed:
            if self._has_failed(item):
                self._record_failure(item, error)

    def remove_key(self, key: ApiKey, error: InvalidKeyError) -> None:
        """Don't use a key any more; stop if it was the last one."""
        if not self._keys.remove(key):
            return
        if not self._keys.keys:
            self.request_stop(lambda: self._reasons.no_usable_key(error, self._progress))
        elif not self.is_stopping:
            logger.warning(f"key number {key.number} is left out: {error}")

    def daily_quota_spent(self, until: float) -> None:
        """Stop because all keys' daily quotas are spent until a moment (Unix seconds)."""
        keys = self._keys
        self.request_stop(
            lambda: self._reasons.daily_quota_spent(
                until, len(keys.keys), keys.quota_message, self._progress
            )
        )

    def budget_exhausted(self, limit: float, committed: float) -> None:
        """Stop because the next request might exceed the budget; see `StopReasons`."""
        self.request_stop(lambda: self._reasons.budget_exhausted(limit, committed, self._progress))
