"""Policy: what outcomes mean for images, beside what they mean for keys and the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from abo_vqa.annotate.explain import describe_empty_streak
from abo_vqa.annotate.online import stop_reasons
from abo_vqa.annotate.online.image_failures import ImageFailures
from abo_vqa.annotate.tasks import Task
from abo_vqa.core.errors import UserError
from abo_vqa.data.image_files import ImageError
from abo_vqa.remote.dispatch.policy import OutcomePolicy
from abo_vqa.remote.dispatch.queue import PendingRequest, RequestQueue
from abo_vqa.remote.dispatch.stop_reasons import StopReasons
from abo_vqa.remote.errors import InvalidKeyError, RequestRefusedError, ServiceError
from abo_vqa.remote.journal import JournalEntry
from abo_vqa.remote.key_pool import ApiKey, KeyPool

if TYPE_CHECKING:
    from abo_vqa.core.service_config import GenerateConfig


class FailurePolicy(OutcomePolicy[Task]):
    """Decides about outcomes; failures count against images only where the images are at fault."""

    def __init__(
        self,
        settings: GenerateConfig,
        queue: RequestQueue[Task],
        keys: KeyPool,
        failures: ImageFailures,
    ) -> None:
        """Start without failures.

        Args:
            settings: patience, attempts and the model.
            queue: takes images that are asked about again.
            keys: loses keys that can't be used.
            failures: takes failures that may be the images' own.
        """
        super().__init__(
            settings, queue, keys, StopReasons(settings, "generate.", "in params.yaml")
        )
        self._settings, self._failures = settings, failures

    @property
    def open_images(self) -> int:
        """Images that aren't finished."""
        return len(self._queue) + len(self._failures.undecided)

    @property
    def _progress(self) -> str:
        return f"{self.open_images:,} images are open and everything is saved"

    def _max_unproven(self, concurrency: int) -> int:
        return self._failures.max_pending(concurrency)

    def _handle_unreadable(self, item: Task, error: ImageError) -> None:
        item.problem = f"unreadable: {error.reason}"

    def _handle_reply(self, pending: PendingRequest[Task], entry: JournalEntry) -> None:
        task = pending.item
        first, kind = task.replies == 0, task.shortfall(entry)
        self._failures.confirm_refusals(pending.sent)
        task.update(entry)
        if task.is_open and (task.empty_reason or task.is_cut_off):
            # All replies may be so: ask about other images before paying for another one.
            self._queue.ready.append(task)
        elif task.is_open:
            self._queue.ready.appendleft(task)
        if self._failures.add_reply(task, kind, first=first) and not self.is_stopping:
            images = len(self._failures.empty_replies.kinds)
            sample = "" if entry.candidates else pending.reply_text
            self.request_stop(
                lambda: UserError(describe_empty_streak(images, kind, self._settings, sample))
            )

    def _handle_refusal(self, pending: PendingRequest[Task], error: RequestRefusedError) -> None:
        too_many = self._failures.add_refusal(pending.item, error, pending.ended)
        if too_many and not self.is_stopping:
            self.request_stop(lambda: self._all_refused(str(error)))

    def _record_failure(self, item: Task, error: ServiceError) -> bool:
        self._failures.record_failure(item, error)
        return item.is_open

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
