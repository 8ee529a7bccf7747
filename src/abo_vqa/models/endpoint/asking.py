"""Questions to a service: what becomes of their replies and failures."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from abo_vqa.core.errors import UserError
from abo_vqa.data.pairs import Pair
from abo_vqa.remote.contract import Reply, Request
from abo_vqa.remote.dispatch.dispatcher import Dispatcher
from abo_vqa.remote.dispatch.policy import OutcomePolicy
from abo_vqa.remote.dispatch.queue import PendingRequest, RequestQueue
from abo_vqa.remote.dispatch.sender import RequestSender
from abo_vqa.remote.dispatch.stop_reasons import StopReasons, output_limit_advice
from abo_vqa.remote.errors import RequestRefusedError, ServiceError
from abo_vqa.remote.failure_streaks import FailureStreak, error_kind
from abo_vqa.remote.journal import AnnotationJournal, JournalEntry, timestamp

if TYPE_CHECKING:
    from abo_vqa.core.service_config import EndpointConfig
    from abo_vqa.remote.budget import Budget
    from abo_vqa.remote.key_pool import KeyPool
    from abo_vqa.remote.ledger import Ledger

_SAVED = "every reply is saved"


@dataclass
class Question:
    """A question on its way to its answer.

    Attributes:
        key: its key in the journal.
        request: what is sent.
        failed_tries: see `Item`.
        answers_before: likewise.
    """

    key: str
    request: Request
    failed_tries: int = 0
    answers_before: int = 0


class QuestionSender(RequestSender[Question]):
    """Sends questions."""

    def draft(self, item: Question) -> Request:
        """Return the request, image included."""
        return item.request

    def entry(self, item: Question, reply: Reply) -> JournalEntry:
        """Return a reply as the journal keeps it: a pair of the question and the answer."""
        text, asked = " ".join(reply.text.split()), item.request.text
        return JournalEntry(
            asked,
            item.key,
            (Pair(asked, text),) if text else (),
            finish=reply.finish,
            problem=f"blocked: {reply.blocked}" if reply.blocked else "",
            usage=reply.usage,
            model=reply.model,
            time=timestamp(),
        )


class QuestionPolicy(OutcomePolicy[Question]):
    """Decides about outcomes: a question that fails is left out, unless one after the other does.

    Attributes:
        replies: those so far, by the question's key.
        errors: why questions failed, by their keys.
    """

    def __init__(
        self,
        settings: EndpointConfig,
        queue: RequestQueue[Question],
        keys: KeyPool,
        replies: MutableMapping[str, JournalEntry],
    ) -> None:
        """Start without failures.

        Args:
            settings: patience, attempts and the model.
            queue: takes questions that are asked again.
            keys: loses keys that can't be used.
            replies: takes the replies, which are in the journal by then; it may hold earlier ones.
        """
        place = "in this endpoint's settings under models in the profile"
        reasons = StopReasons(settings, "", place, label=f"{settings.model}: ")
        super().__init__(settings, queue, keys, reasons)
        self._settings, self.replies = settings, replies
        self.errors: dict[str, str] = {}
        self._streak = FailureStreak(successes=sum(bool(e.pairs) for e in replies.values()))

    @property
    def _progress(self) -> str:
        return _SAVED

    def _max_unproven(self, concurrency: int) -> int:
        return self._streak.max_pending(concurrency)

    def _handle_reply(self, pending: PendingRequest[Question], entry: JournalEntry) -> None:
        self.replies[pending.item.key] = entry
        if entry.pairs:
            self._streak.record_success()
        else:
            self._count_failure(pending.item, entry.problem or entry.finish)

    def _handle_refusal(
        self, pending: PendingRequest[Question], error: RequestRefusedError
    ) -> None:
        self._record_failure(pending.item, error)

    def _record_failure(self, item: Question, error: ServiceError) -> bool:
        self.errors[item.key] = str(error)
        self._count_failure(item, error_kind(str(error)))
        return False

    def _count_failure(self, item: Question, kind: str) -> None:
        """Count a question without an answer; too many alike stop the run."""
        self._streak.record_failure(item.key, kind)
        if self._streak.is_systematic and not self.is_stopping:
            count = len(self._streak.kinds)
            self.request_stop(lambda: self._all_failed(count, kind))

    def _all_failed(self, count: int, kind: str) -> UserError:
        advice = "Check the endpoint's settings under models in the profile, and the account."
        if "MAX_TOKENS" in kind:
            advice = (
                f"{output_limit_advice(self._settings, '')} Replies under other settings are asked "
                "for anew."
            )
        return UserError(
            f"{self._settings.model}: {count} questions in a row got no answer: {kind}. {advice} "
            "Every reply is saved: run it again to continue."
        )


class QuestionRun:
    """Asks questions, with the journal, the ledger, the budget and the keys of a session."""

    def __init__(
        self,
        settings: EndpointConfig,
        journal: AnnotationJournal,
        ledger: Ledger,
        keys: KeyPool,
        budget: Budget,
        replies: MutableMapping[str, JournalEntry],
    ) -> None:
        """Collect the parts.

        Args:
            settings: concurrency, attempts, patience.
            journal: takes replies.
            ledger: takes the end of each request.
            keys: reserves quota.
            budget: reserves money.
            replies: takes the replies, too; it may hold earlier ones.
        """
        self._queue: RequestQueue[Question] = RequestQueue()
        self._policy = QuestionPolicy(settings, self._queue, keys, replies)
        sender = QuestionSender(journal, ledger, budget)
        self._dispatcher = Dispatcher(
            self._queue, sender, self._policy, keys, budget, settings.concurrency
        )

    def ask(self, requests: Mapping[str, Request]) -> dict[str, str]:
        """Ask until each request has its reply or has failed for good.

        Args:
            requests: by their keys.

        Returns:
            Why requests failed, by their keys.

        Raises:
            UserError: see `Dispatcher.run`.
            RetryLaterError: likewise.
        """
        self._policy.errors.clear()
        self._queue.ready.extend(Question(key, request) for key, request in requests.items())
        self._dispatcher.run()
        return dict(self._policy.errors)
