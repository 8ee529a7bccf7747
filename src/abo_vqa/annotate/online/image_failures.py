"""Failures that may be held against images: refusals, empty replies, requests that always fail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from abo_vqa.annotate.tasks import CUT_OFF, Task
from abo_vqa.remote.errors import RequestRefusedError, ServiceError
from abo_vqa.remote.failure_streaks import FailureStreak, error_kind
from abo_vqa.remote.history import emptiness_kind, open_streak
from abo_vqa.remote.journal import (
    CUT_OFF_REASON,
    DROPPED,
    AnnotationJournal,
    JournalEntry,
    timestamp,
)


@dataclass(frozen=True)
class _Refusal:
    """A refused request whose fault isn't clear yet.

    Attributes:
        task: the image.
        message: the vendor's.
        time: Unix seconds when it came.
    """

    task: Task
    message: str
    time: float


class ImageFailures:
    """Records failures in the journal once they are proven to be the images' own.

    Attributes:
        undecided: refusals that may be everybody's.
        refusals: the streak of refused images.
        empty_replies: the streak of images whose reply held no good pair, or was cut off.
        drop_failing: whether failures count against their images however many fail alike.
    """

    def __init__(
        self, journal: AnnotationJournal, empty_replies: FailureStreak, *, drop_failing: bool
    ) -> None:
        """Start with the streak that the journal ends with.

        Refusals begin anew: they cost nothing, and those that may be everybody's are in no journal.

        Args:
            journal: takes failures that are the images' own.
            empty_replies: see the class, and `last_streak`.
            drop_failing: see the class.
        """
        self.undecided: list[_Refusal] = []
        self.refusals, self.empty_replies = FailureStreak(), empty_replies
        self.drop_failing = drop_failing
        self._journal = journal

    def add_refusal(self, task: Task, error: RequestRefusedError, time: float) -> bool:
        """Note a refusal; return whether there are too many to be the images' own."""
        self.undecided.append(_Refusal(task, str(error), time))
        self.refusals.record_failure(task.image_path, error_kind(str(error)))
        return self.refusals.is_systematic and not self.drop_failing

    def confirm_refusals(self, sent: float) -> None:
        """Record the refusals that an answer shows to be the images' own.

        Args:
            sent: when the answered request was sent. Requests on their way when an account is
                blocked may still be answered, and prove nothing about later refusals.
        """
        self.refusals.record_success()
        proven = [refusal for refusal in self.undecided if refusal.time <= sent]
        self.undecided = [refusal for refusal in self.undecided if refusal.time > sent]
        for refusal in proven:
            self._record_refusal(refusal, "refused")

    def record_undecided(self) -> None:
        """Record all undecided refusals."""
        undecided, self.undecided = self.undecided, []
        for refusal in undecided:
            self._record_refusal(refusal, DROPPED if self.drop_failing else "refused")

    def _record_refusal(self, refusal: _Refusal, problem: str) -> None:
        message = f"{problem}: {refusal.message}"
        self._record(refusal.task, message, round(refusal.time, 3))

    def record_failure(self, task: Task, error: ServiceError) -> None:
        """Record that an image failed; after a few such entries it is left out for good."""
        self._record(task, f"failed: {error}", timestamp())
        task.failed_tries = 0

    def _record(self, task: Task, problem: str, time: float) -> None:
        entry = JournalEntry(task.image_path, task.key, problem=problem, time=time)
        self._journal.append(entry)
        task.update(entry)

    def add_reply(self, task: Task, kind: str, *, first: bool) -> bool:
        """Count a reply; return whether too many failed to be the images' own failures.

        Args:
            task: the image.
            kind: how the reply failed, or "".
            first: whether it is the image's first one: only that adds to the streak.
        """
        if not kind:
            self.empty_replies.record_success()
        elif first:
            self.empty_replies.record_failure(task.image_path, kind)
        return bool(kind) and self.empty_replies.is_systematic and not self.drop_failing

    def max_pending(self, concurrency: int) -> int:
        """Return how many requests may be on their way; see `FailureStreak.max_pending`."""
        return concurrency if self.drop_failing else self.empty_replies.max_pending(concurrency)


def last_streak(entries: Sequence[JournalEntry], questions: int) -> FailureStreak:
    """Return the streak of images without pairs, or with too few, that a journal ends with.

    Args:
        entries: the journal's.
        questions: how many pairs an image is asked for at first.
    """

    def kind_of(entry: JournalEntry) -> str | None:
        cut_off = entry.finish == CUT_OFF_REASON and len(entry.candidates) < questions
        return CUT_OFF if cut_off and not entry.problem else emptiness_kind(entry)

    # What the user has dropped was the images' own fault, and is no evidence of anything else.
    dropped = (i for i, entry in enumerate(entries, 1) if entry.problem.startswith(DROPPED))
    return open_streak(entries[max(dropped, default=0) :], kind_of)
