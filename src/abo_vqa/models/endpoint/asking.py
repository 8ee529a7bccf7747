"""Questions to a service: sent together, within its quota and the budget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NoReturn

from abo_vqa.core.progress import BarNote, progress_bar
from abo_vqa.data.pairs import Pair
from abo_vqa.models.endpoint.policy import QuestionPolicy
from abo_vqa.models.endpoint.questions import Question
from abo_vqa.models.endpoint.replies import ReplyRecord, answer_text
from abo_vqa.models.long_answers import FirstReplies
from abo_vqa.remote.budget import describe_cost
from abo_vqa.remote.contract import Reply, Request
from abo_vqa.remote.dispatch.dispatcher import Dispatcher
from abo_vqa.remote.dispatch.queue import Outcome, PendingRequest, RequestQueue
from abo_vqa.remote.dispatch.sender import RequestSender
from abo_vqa.remote.journal import AnnotationJournal, JournalEntry, timestamp

if TYPE_CHECKING:
    from tqdm import tqdm

    from abo_vqa.core.service_config import EndpointConfig
    from abo_vqa.remote.budget import Budget
    from abo_vqa.remote.key_pool import KeyPool
    from abo_vqa.remote.ledger import Ledger

_BAR_AFTER_S = 10.0


class QuestionSender(RequestSender[Question]):
    """Sends questions."""

    def draft(self, item: Question) -> Request:
        """Return the request, image included."""
        return item.request

    def entry(self, item: Question, reply: Reply) -> JournalEntry:
        """Return a reply as the journal keeps it: a pair of the question and the answer."""
        text, asked = answer_text(reply.text, reply.finish), item.request.text
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


class _QuestionDispatcher(Dispatcher[Question]):
    """Sends questions, and shows how far they are where it takes a while."""

    _bar: tqdm[NoReturn]
    _note: BarNote
    _settings: EndpointConfig

    def ask(self, settings: EndpointConfig) -> None:
        """Send the questions of the queue behind a bar with the cost; see `Dispatcher.run`.

        Args:
            settings: the model's name and the prices.
        """
        self._settings, total = settings, len(self._queue)
        with progress_bar(
            total, desc=settings.model, unit="question", delay=_BAR_AFTER_S, leave=False
        ) as self._bar:
            self._note = BarNote(self._bar)
            self._show_cost()
            self.run()

    def _settle(self, pending: PendingRequest[Question], outcome: Outcome) -> None:
        super()._settle(pending, outcome)
        self._show_cost()
        finished = int(self._bar.total or 0) - len(self._queue)
        self._bar.update(max(0, finished - self._bar.n))  # a control question is one more

    def _show_wait(self, reason: str) -> None:
        self._note.update(wait=reason)

    def _show_cost(self) -> None:
        self._note.update(cost=describe_cost(self._budget.cost, self._settings))


class QuestionRun:
    """Asks questions, with the journal, the ledger, the budget and the keys of a session."""

    def __init__(
        self,
        settings: EndpointConfig,
        journal: AnnotationJournal,
        ledger: Ledger,
        keys: KeyPool,
        budget: Budget,
        replies: ReplyRecord,
        first_replies: FirstReplies | None,
    ) -> None:
        """Collect the parts.

        Args:
            settings: concurrency, attempts, patience.
            journal: takes replies.
            ledger: takes the end of each request.
            keys: reserves quota.
            budget: reserves money.
            replies: takes the replies, too; it holds earlier ones.
            first_replies: warns if they are long, or None.
        """
        self._queue: RequestQueue[Question] = RequestQueue()
        self._replies = replies
        self._policy = QuestionPolicy(settings, self._queue, keys, replies, first_replies)
        sender = QuestionSender(journal, ledger, budget)
        self._settings = settings
        self._dispatcher = _QuestionDispatcher(
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
        # Those of a streak of failures last: whether they fail again tells less than others.
        order = sorted(requests, key=lambda key: key in self._replies.streak.kinds)
        self._queue.ready.extend(Question(key, requests[key]) for key in order)
        self._dispatcher.ask(self._settings)
        return dict(self._policy.errors)
