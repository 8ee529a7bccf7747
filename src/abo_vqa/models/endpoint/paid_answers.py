"""Answers that cost money: each is on disk before it counts, and is never asked for again."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from abo_vqa.core.errors import UserError
from abo_vqa.core.fingerprints import fingerprint
from abo_vqa.core.scratch import scratch
from abo_vqa.models.answers import Answer
from abo_vqa.models.endpoint.asking import QuestionRun
from abo_vqa.models.endpoint.replies import ReplyRecord
from abo_vqa.models.long_answers import FirstReplies
from abo_vqa.remote.budget import Budget, describe_cost
from abo_vqa.remote.clients import open_clients
from abo_vqa.remote.history import mark_outgrown
from abo_vqa.remote.journal import (
    AnnotationJournal,
    JournalBusyError,
    JournalEntry,
    JournalReader,
    journal_name,
)
from abo_vqa.remote.journal_files import all_journals
from abo_vqa.remote.key_pool import KeyPool
from abo_vqa.remote.ledger import Ledger

if TYPE_CHECKING:
    from abo_vqa.core.service_config import EndpointConfig
    from abo_vqa.remote.contract import Request


def reply_journals(record: Mapping[str, Any]) -> list[JournalReader]:
    """Return the journals with a model's replies.

    Args:
        record: what replies depend on; other settings have other journals.
    """
    folder = scratch("endpoint", fingerprint(dict(record)))
    return [JournalReader(path) for path in all_journals(folder, record)]


def current_replies(
    entries: Iterable[JournalEntry], settings: EndpointConfig
) -> Iterator[JournalEntry]:
    """Yield entries without replies that were cut off by a lower limit than today's.

    Such questions are asked again.

    Args:
        entries: a journal's.
        settings: today's limit.
    """
    for entry in entries:
        if not mark_outgrown(entry, settings.max_output_tokens).is_outgrown:
            yield entry


def reply_key(text: str, source: str) -> str:
    """Return what identifies a question: not the JPEG, which another Pillow encodes otherwise.

    Args:
        text: the prompt with the question.
        source: the hash of the image's file.
    """
    return hashlib.sha256(f"{text}\0{source}".encode()).hexdigest()


@dataclass
class _ReservedCost:
    """What requests on their way may cost, in USD.

    Attributes:
        read: reads it from the ledger; 0 before that is open.
    """

    read: Callable[[], float] = float

    def __call__(self) -> float:
        return self.read()


class PaidAnswers:
    """A model's replies by image, question and settings, those of earlier runs included."""

    def __init__(
        self, settings: EndpointConfig, record: Mapping[str, Any], *, expects_short: bool
    ) -> None:
        """Read the journals.

        Args:
            settings: the service.
            record: what replies depend on; other settings have other journals.
            expects_short: whether a whole reply is the answer; then long ones are worth a warning.
        """
        self._settings, self._record = settings, record
        self._folder = scratch("endpoint", fingerprint(dict(record)))
        self._replies = ReplyRecord()
        self._first_replies = FirstReplies(settings.model) if expects_short else None
        self._reserved = _ReservedCost()
        self._budget = Budget(settings, (), self._reserved)
        for journal in reply_journals(record):
            self._replies.add_journal(current_replies(self._counted(journal), settings))
        self._resources = ExitStack()
        self._run: QuestionRun | None = None
        weakref.finalize(self, self._resources.close)

    @property
    def cost(self) -> str:
        """What the replies have cost, for people."""
        return describe_cost(self._budget.cost, self._settings)

    def _counted(self, entries: Iterable[JournalEntry]) -> Iterator[JournalEntry]:
        """Yield entries, and take what they cost into account."""
        for entry in entries:
            self._budget.record(entry)
            self._budget.estimator.note_count(entry.usage)
            yield entry

    def ask(self, requests: Sequence[Request], sources: Sequence[str]) -> list[Answer]:
        """Return the answers to some requests, asking the service for those that are unknown.

        Args:
            requests: images and questions.
            sources: the hash of each image's file.

        Returns:
            The answers in their order; one that failed in the end has an error.

        Raises:
            UserError: no usable key, no such model, the budget is used up, or request after request
                fails alike.
            RetryLaterError: the daily quotas are spent, or the service doesn't answer.
        """
        keys = [
            reply_key(request.text, source)
            for request, source in zip(requests, sources, strict=True)
        ]
        missing = {
            key: request
            for key, request in zip(keys, requests, strict=True)
            if self._replies.is_open(key)
        }
        errors: dict[str, str] = {}
        if missing:
            try:
                self._run = self._run or self._open()
                errors = self._run.ask(missing)
            except BaseException:
                self._run, self._reserved.read = None, float
                self._resources.close()
                raise
        return [
            Answer("", None, errors[key]) if key in errors else self._replies.answer(key)
            for key in keys
        ]

    def _open(self) -> QuestionRun:
        """Open the journal, the ledger, and a client for each key."""
        settings, stack = self._settings, self._resources
        path = self._folder / "replies-0.jsonl"
        try:
            limit = settings.max_output_tokens
            journal = stack.enter_context(AnnotationJournal(path, self._record, limit=limit))
        except JournalBusyError as error:
            raise UserError(
                f"another process is asking {settings.model} with these settings. Wait for it."
            ) from error
        ledger = Ledger(scratch("generate", "quota") / "calls.sqlite")
        stack.callback(ledger.close)
        keys = stack.enter_context(open_clients(settings))
        # Killed requests of versions with several processes, too.
        paths = all_journals(self._folder, self._record)
        names = {journal.name, *map(journal_name, paths)}
        self._reserved.read = lambda: ledger.reserved_cost(*names)
        return QuestionRun(
            settings,
            journal,
            ledger,
            KeyPool(keys, ledger, journal.name, settings),
            self._budget,
            self._replies,
            self._first_replies,
        )
