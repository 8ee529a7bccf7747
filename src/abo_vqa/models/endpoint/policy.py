"""Policy: what becomes of a question's replies and failures."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from abo_vqa.core.errors import UserError
from abo_vqa.models.endpoint.questions import (
    VERDICT_KEY,
    Question,
    control_question,
    verdict_question,
)
from abo_vqa.models.endpoint.replies import ReplyRecord, failure_kind
from abo_vqa.models.long_answers import FirstReplies
from abo_vqa.remote.dispatch.policy import OutcomePolicy
from abo_vqa.remote.dispatch.queue import PendingRequest, RequestQueue
from abo_vqa.remote.dispatch.stop_reasons import StopReasons, output_limit_advice
from abo_vqa.remote.errors import RequestRefusedError, ServiceError
from abo_vqa.remote.failure_streaks import error_kind
from abo_vqa.remote.journal import CUT_OFF_REASON, JournalEntry

if TYPE_CHECKING:
    from abo_vqa.core.service_config import EndpointConfig
    from abo_vqa.remote.key_pool import KeyPool

_SAVED = "every reply is saved"


class QuestionPolicy(OutcomePolicy[Question]):
    """Decides about outcomes: a question that fails is left out, unless one after the other does.

    Whether a question without any answer is at fault, or the service, is known once another one was
    answered after its first failure. If there is no other, a control question tells. Another one
    tells whether images are at fault whose questions fail alike one after the other, as those of a
    product that the vendor's filter blocks do; it can't where replies are cut off, since it is
    easier than others. Where replies cost something it is believed once until a row is answered.

    Attributes:
        errors: why questions failed, by their keys.
    """

    def __init__(
        self,
        settings: EndpointConfig,
        queue: RequestQueue[Question],
        keys: KeyPool,
        replies: ReplyRecord,
        first_replies: FirstReplies | None = None,
    ) -> None:
        """Start without failures.

        Args:
            settings: patience, attempts and the model.
            queue: takes questions that are asked again.
            keys: loses keys that can't be used.
            replies: takes the replies, which are in the journal by then; it holds earlier ones.
            first_replies: warns if answers are long, or None.
        """
        place = "in this endpoint's settings under models in the profile"
        reasons = StopReasons(settings, "", place, label=f"{settings.model}: ")
        super().__init__(settings, queue, keys, reasons)
        self.errors: dict[str, str] = {}
        self._settings, self._replies, self._first_replies = settings, replies, first_replies
        self._streak = replies.streak  # with what earlier runs ended with
        self._suspicion = ""  # how questions in a row failed while a verdict is awaited
        self._is_acquitted = False  # whether there was no answer since the last verdict
        self._has_control = False  # whether a control question is in the queue
        self._control_until = (
            0.0  # by the monotonic clock: for so long its first outcome is awaited
        )

    @property
    def _progress(self) -> str:
        return _SAVED

    def _max_unproven(self, concurrency: int) -> int:
        return 1 if self._suspicion else self._streak.max_pending(concurrency)

    def _handle_reply(self, pending: PendingRequest[Question], entry: JournalEntry) -> None:
        item, kind = pending.item, failure_kind(entry)
        if item.is_control:
            self._end_control(item, is_answered=not kind)
            return
        is_first = not self._replies.empty_replies(item.key)
        self._replies.add(entry)
        if not kind:
            self._streak.record_success()
            self._is_acquitted = False
            if self._first_replies:
                self._first_replies.add(entry.pairs[0].answer)
            return
        if self._replies.is_open(item.key):
            # All replies may be empty: ask other questions before paying for this one again.
            self._queue.ready.append(item)
        if is_first:
            self._count_failure(item, kind, is_paid=True)

    def _handle_refusal(
        self, pending: PendingRequest[Question], error: RequestRefusedError
    ) -> None:
        if pending.item.is_control:
            self.health.record_answer()  # the service works, and dislikes what it was asked
        self._record_failure(pending.item, error)

    def _handle_failure(self, item: Question, error: ServiceError) -> None:
        if item.is_control:
            self._control_until = 0.0
        elif not self._has_control and self._may_be_at_fault(item):
            self._queue.ready.appendleft(control_question())
            self._has_control = True
            self._control_until = time.monotonic() + self._settings.patience_s
        super()._handle_failure(item, error)

    def _may_be_at_fault(self, item: Question) -> bool:
        """Return whether a question that has failed once more would be given up in an outage."""
        if item.failed_tries and self.health.answers > item.answers_before:
            return False  # it isn't an outage
        return item.failed_tries + 1 >= self._attempts or self.health.patience_exhausted

    def _check_patience(self, error: ServiceError) -> None:
        if time.monotonic() >= self._control_until:
            super()._check_patience(error)

    def _end_control(self, item: Question, *, is_answered: bool) -> None:
        if item.key != VERDICT_KEY:
            self._has_control, self._control_until = False, 0.0
            return
        kind, self._suspicion = self._suspicion, ""
        if is_answered:
            self._streak.acquit()
            self._is_acquitted = True
        elif self._streak.is_systematic:  # no row was answered meanwhile
            self._stop_failing(kind)

    def _record_failure(self, item: Question, error: ServiceError) -> bool:
        if item.is_control:
            self._end_control(item, is_answered=False)
            return False
        self.errors[item.key] = str(error)
        self._count_failure(item, error_kind(str(error)), is_paid=error.billed)
        return False

    def _count_failure(self, item: Question, kind: str, *, is_paid: bool) -> None:
        """Count a question without an answer; too many alike stop the run, or need a verdict."""
        self._streak.record_failure(item.key, kind)
        if not self._streak.is_systematic or self._suspicion:
            return
        if CUT_OFF_REASON in kind or (self._is_acquitted and is_paid):
            self._stop_failing(kind)
        else:
            self._suspicion = kind
            self._queue.ready.appendleft(verdict_question(item))

    def _stop_failing(self, kind: str) -> None:
        if not self.is_stopping:
            count = len(self._streak.kinds)
            self.request_stop(lambda: self._all_failed(count, kind))

    def _all_failed(self, count: int, kind: str) -> UserError:
        advice = "Check the endpoint's settings under models in the profile, and the account."
        if CUT_OFF_REASON in kind:
            advice = output_limit_advice(self._settings, "")
        return UserError(
            f"{self._settings.model}: {count} questions in a row got no answer: {kind}. {advice} "
            "Every reply is saved: run it again to continue."
        )
