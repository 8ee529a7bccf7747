"""Policy: what an outcome means for its image, its key and the run, and when the run must stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from abo_vqa.annotate.explain import describe_empty_streak
from abo_vqa.annotate.online import stop_reasons
from abo_vqa.annotate.online.image_failures import ImageFailures
from abo_vqa.annotate.online.sender import Outcome, PendingRequest
from abo_vqa.annotate.online.task_queue import TaskQueue
from abo_vqa.annotate.tasks import Task
from abo_vqa.core.errors import UserError
from abo_vqa.core.log import get_logger
from abo_vqa.data.image_files import ImageError
from abo_vqa.remote.backoff import backoff_seconds
from abo_vqa.remote.errors import (
    DailyQuotaError,
    InvalidKeyError,
    RequestRefusedError,
    ServiceError,
    ThrottledError,
    UnknownModelError,
)
from abo_vqa.remote.health import ServiceHealth
from abo_vqa.remote.journal import JournalEntry
from abo_vqa.remote.key_pool import ApiKey, KeyPool

if TYPE_CHECKING:
    from abo_vqa.core.service_config import GenerateConfig

logger = get_logger(__name__)


class FailurePolicy:
    """Decides about outcomes.

    Attributes:
        health: whether the service answers at all.
    """

    def __init__(
        self, settings: GenerateConfig, queue: TaskQueue, keys: KeyPool, failures: ImageFailures
    ) -> None:
        """Start without failures.

        Args:
            settings: patience, attempts and the model.
            queue: takes images that are asked about again.
            keys: loses keys that can't be used.
            failures: takes failures that may be the images' own.
        """
        self._stop_reason: Callable[[], BaseException] | None = None
        self._accepted = False  # whether a key and the model have been
        self.health = ServiceHealth(settings.patience_s)
        self._settings, self._queue, self._keys, self._failures = settings, queue, keys, failures

    def request_stop(self, reason: Callable[[], BaseException]) -> None:
        """Send no more; the latest reason counts.

        Args:
            reason: returns the error that ends the run. It is called once the requests on their
                way have ended, so that it counts the open images correctly.
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

    @property
    def open_images(self) -> int:
        """Images that aren't finished."""
        return len(self._queue) + len(self._failures.undecided)

    def max_pending(self, concurrency: int) -> int:
        """Return how many requests may be on their way; see `ImageFailures.max_pending`.

        One until the key and the model are known to be accepted: if not, nothing else is asked.
        """
        return self._failures.max_pending(concurrency) if self._accepted else 1

    def handle(self, pending: PendingRequest, outcome: Outcome) -> None:
        """Decide whether an image is asked about again, its key used again, the run continued."""
        task, key = pending.task, pending.reservation.key
        if not isinstance(outcome, (ImageError, InvalidKeyError, UnknownModelError)):
            self._accepted = True
        if isinstance(outcome, ImageError):
            task.problem = f"unreadable: {outcome.reason}"
        elif isinstance(outcome, JournalEntry):
            self._handle_reply(pending, outcome)
        elif isinstance(outcome, (ThrottledError, DailyQuotaError)):
            self._queue.ready.appendleft(task)
            if self._keys.pause(key, outcome):
                self._check_patience(outcome)
        elif isinstance(outcome, InvalidKeyError):
            self.remove_key(key, outcome)
            self._queue.ready.appendleft(task)
        elif isinstance(outcome, UnknownModelError):
            self.request_stop(lambda: stop_reasons.unknown_model(self._settings, outcome))
        elif isinstance(outcome, RequestRefusedError):
            if self._failures.add_refusal(task, outcome, pending.ended) and not self.is_stopping:
                self.request_stop(lambda: self._all_refused(str(outcome)))
        else:
            self._handle_failure(task, outcome)

    def _handle_reply(self, pending: PendingRequest, entry: JournalEntry) -> None:
        task = pending.task
        first = task.replies == 0
        self.health.record_answer()
        pending.reservation.key.throttles = task.failed_tries = 0
        self._failures.confirm_refusals(pending.sent)
        task.update(entry)
        if task.is_open and task.empty_reason:
            # All replies may be empty: ask about other images before paying for another one.
            self._queue.ready.append(task)
        elif task.is_open:
            self._queue.ready.appendleft(task)
        kind = self._failures.add_reply(task, entry, first=first)
        if kind and not self.is_stopping:
            images = len(self._failures.empty_replies.kinds)
            sample = "" if entry.candidates else pending.reply_text
            self.request_stop(
                lambda: UserError(describe_empty_streak(images, kind, self._settings, sample))
            )

    def _handle_failure(self, task: Task, error: ServiceError) -> None:
        """Handle a server error, a timeout or a dropped connection: try again, up to a limit.

        Failures count against the image once other images were answered meanwhile. Until then it
        may be an outage, which is no image's fault, and which `_check_patience` ends.
        """
        if task.failed_tries == 0:
            task.answers_before = self.health.answers
        task.failed_tries += 1
        if self._has_failed(task) and self.health.answers > task.answers_before:
            self._failures.record_failure(task, error)
        if task.is_open:
            pause = max(error.delay or 0, backoff_seconds(task.failed_tries))
            self._queue.delay(task, pause)
        self.health.record_failure()
        self._check_patience(error)

    def _has_failed(self, task: Task) -> bool:
        return task.failed_tries >= self._settings.attempts

    def _check_patience(self, error: ServiceError) -> None:
        """Stop if there has been no answer for too long."""
        if not self.health.patience_exhausted or self.is_stopping:
            return
        for task in self._queue.delayed:  # otherwise an image that always fails would stay forever
            if self._has_failed(task):
                self._failures.record_failure(task, error)
        self.request_stop(
            lambda: stop_reasons.no_answer(self._settings.patience_s, error, self.open_images)
        )

    def remove_key(self, key: ApiKey, error: InvalidKeyError) -> None:
        """Don't use a key any more; stop if it was the last one."""
        if not self._keys.remove(key):
            return
        if not self._keys.keys:
            self.request_stop(
                lambda: stop_reasons.no_usable_key(error, self._settings, self.open_images)
            )
        elif not self.is_stopping:
            logger.warning(f"key number {key.number} is left out: {error}")

    def daily_quota_spent(self, until: float) -> None:
        """Stop because all keys' daily quotas are spent until a moment (Unix seconds)."""
        self.request_stop(
            lambda: stop_reasons.daily_quota_spent(
                until, len(self._keys.keys), self._keys.quota_message, self.open_images
            )
        )

    def budget_exhausted(self, limit: float, committed: float) -> None:
        """Stop because the next request might exceed the budget; see `stop_reasons`."""
        self.request_stop(lambda: stop_reasons.budget_exhausted(limit, committed, self.open_images))

    @property
    def needs_control(self) -> bool:
        """Whether only a control request can tell whose fault the undecided refusals are."""
        undecided = self._failures.undecided
        single = len(undecided) == 1 and self.health.answers > 0
        return bool(undecided) and not single and not self._failures.drop_failing

    def decide_refusals(self, control_answered: bool) -> None:
        """Decide about refusals that no later request can be compared with.

        Args:
            control_answered: whether the service works; then the images are the cause.
        """
        if control_answered:
            self._failures.record_undecided()
        elif not self.is_stopping:
            message = self._failures.undecided[-1].message
            self.request_stop(lambda: self._all_refused(message))

    def control_failed(self, key: ApiKey, error: ServiceError) -> None:
        """Handle a control request's error; a refusal is left to `decide_refusals`."""
        if isinstance(error, InvalidKeyError):
            self.remove_key(key, error)
        elif not isinstance(error, RequestRefusedError):
            refused = len(self._failures.undecided)
            self.request_stop(lambda: stop_reasons.undecided_refusals(refused, error))

    def _all_refused(self, message: str) -> UserError:
        refused = len(self._failures.refusals.kinds)
        return stop_reasons.all_refused(refused, message, self.open_images)
