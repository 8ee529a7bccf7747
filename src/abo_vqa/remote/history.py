"""What journals say about images, after systematic failures are set aside.

Neither the run that meets a systematic failure nor a later one that reads the journal holds it
against an image; see `failure_streaks`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from abo_vqa.remote.failure_streaks import FailureStreak, error_kind
from abo_vqa.remote.http_errors import is_account_message
from abo_vqa.remote.journal import (
    CUT_OFF_REASON,
    DROPPED,
    EXCUSED,
    OUTGROWN,
    REOPENED,
    AnnotationJournal,
    JournalEntry,
    no_pairs_reason,
    read_journal,
)
from abo_vqa.remote.journal_files import all_journals, own_journals

# Empty replies after which the next one will hardly be better.
_PERSISTENT = (
    CUT_OFF_REASON,
    "RECITATION",
    "REFUSAL",
    "PROHIBITED_CONTENT",
    "BLOCKLIST",
    "SPII",
    "LANGUAGE",
)


def is_persistent(kind: str) -> bool:
    """Return whether a reply that failed so will hardly be better when asked for again."""
    return any(reason in kind for reason in _PERSISTENT)


def load_history(folder: Path, settings: Mapping[str, Any], limit: int) -> list[JournalEntry]:
    """Return the entries of all journals in a folder: the main one's and the shards'.

    Those that count against no image are marked as `EXCUSED` or `OUTGROWN`.

    Args:
        folder: the folder.
        settings: what its replies depend on: journals of former versions count, too.
        limit: output tokens that requests allow today, or 0 where `settings` have it.
    """
    entries = [
        entry
        for path in all_journals(folder, settings)
        for entry in _excuse_systematic_failures(read_journal(path).entries)
    ]
    return [mark_outgrown(entry, limit) for entry in _excuse_reopened(entries)]


def own_history(journal: AnnotationJournal) -> list[JournalEntry]:
    """Return what a journal holds, and those of former versions that it continues.

    It is read from the files each time: of all replies, one copy.

    Args:
        journal: the journal.
    """
    return [entry for path in own_journals(journal) for entry in read_journal(path).entries]


def mark_outgrown(entry: JournalEntry, limit: int) -> JournalEntry:
    """Mark a reply that was cut off by a lower limit than today's: it isn't held against its image.

    Args:
        entry: the reply.
        limit: output tokens that requests allow today, or 0.
    """
    if entry.finish != CUT_OFF_REASON or entry.problem or not 0 < entry.limit < limit:
        return entry
    return replace(entry, problem=f"{OUTGROWN}: {no_pairs_reason(entry)}")


def empty_reply_kind(entry: JournalEntry) -> str:
    """Return how a reply failed to bring a single pair, or "" if it brought one."""
    if entry.pairs:
        return ""
    if entry.problem:
        return entry.problem
    if not entry.rejects:
        return no_pairs_reason(entry)
    (reason, _), *_ = Counter(reject.reason for reject in entry.rejects).most_common(1)
    return reason


def _refusal_kind(entry: JournalEntry) -> str | None:
    """Return how an entry was refused; "" for a success, None if it counts as neither."""
    if entry.problem.startswith("refused:"):
        return error_kind(entry.problem.removeprefix("refused:").strip())
    return None if entry.problem and not entry.problem.startswith("blocked") else ""


def emptiness_kind(entry: JournalEntry) -> str | None:
    """Return how a reply was empty; "" for a success, None if it counts as neither."""
    if entry.problem and not entry.problem.startswith("blocked"):
        return None
    if entry.pairs and entry.finish == CUT_OFF_REASON:  # perhaps fewer than were asked for
        return None
    return empty_reply_kind(entry)


def _excuse_systematic_failures(entries: Sequence[JournalEntry]) -> list[JournalEntry]:
    """Mark refusals of the account, and whatever belongs to a systematic streak.

    Only journals of former versions hold refusals of the account: today those stop the run.
    What they cost still counts, and so do pairs that the quality filter rejected: its rules may
    change.
    """
    excused = {
        i
        for i, entry in enumerate(entries)
        if entry.problem.startswith("refused:") and is_account_message(entry.problem)
    }
    for kind_of in (_refusal_kind, emptiness_kind):
        streaks = _find_streaks(entries, kind_of)
        streaks.end_streak()
        excused |= streaks.excused
    return [
        replace(entry, problem=f"{EXCUSED}: {entry.problem or no_pairs_reason(entry)}")
        if i in excused and not entry.candidates
        else entry
        for i, entry in enumerate(entries)
    ]


def _excuse_reopened(entries: Sequence[JournalEntry]) -> list[JournalEntry]:
    """Mark the entries that a later one cancels."""
    since = {
        (entry.image_path, entry.key): entry.time for entry in entries if entry.problem == REOPENED
    }
    return [
        replace(entry, problem=f"{EXCUSED}: {entry.problem}")
        if entry.problem.startswith(("refused", "failed", DROPPED))
        and entry.time <= since.get((entry.image_path, entry.key), -1.0)
        else entry
        for entry in entries
    ]


def open_streak(
    entries: Sequence[JournalEntry], kind_of: Callable[[JournalEntry], str | None]
) -> FailureStreak:
    """Return the streak that a journal ends with, for the run that continues it.

    Otherwise each new start would pay for as many failures again before it stops.

    Args:
        entries: the journal's.
        kind_of: returns how an entry failed; "" for a success, None if it counts as neither.
    """
    return _find_streaks(entries, kind_of).open_streak


def _find_streaks(
    entries: Sequence[JournalEntry], kind_of: Callable[[JournalEntry], str | None]
) -> StreakHistory:
    """Return the streaks of a journal; the last one isn't ended.

    Args:
        entries: the journal's entries.
        kind_of: see `open_streak`.
    """
    streaks = StreakHistory()
    for i in sorted(range(len(entries)), key=lambda i: entries[i].time):
        kind = kind_of(entries[i])
        if kind is not None:
            streaks.add(i, entries[i].image_path, kind)
    return streaks


class StreakHistory:
    """Finds the entries in systematic streaks, one entry after the other in the order of time.

    Attributes:
        excused: the numbers of those entries, as far as their streaks have ended.
    """

    def __init__(self) -> None:
        """Start before the first entry."""
        self.excused: set[int] = set()
        self._known: set[str] = set()  # subjects with an answer, or a failure of their own
        self._members: list[tuple[int, str]] = []
        self._streak, self._is_systematic = FailureStreak(), False

    def add(self, number: int, subject: str, kind: str) -> None:
        """Take an entry into account.

        Args:
            number: the entry's.
            subject: what it is about: an image, or a question. Only its first failure is evidence.
            kind: how it failed; "" for a success.
        """
        if not kind:
            self.end_streak()
            self._known.add(subject)
        else:
            # What has failed on its own before is no evidence, but no fault of its own here either.
            self._members.append((number, subject))
            if subject not in self._known:
                self._streak.record_failure(subject, kind)
                self._is_systematic = self._is_systematic or self._streak.is_systematic

    @property
    def open_streak(self) -> FailureStreak:
        """The present streak, for the run that continues the journal."""
        return self._streak.resumed()

    def acquit(self) -> None:
        """End the present streak: a control request has shown that the failures are its own."""
        self._known.update(subject for _, subject in self._members)
        self._streak.acquit()
        self._members, self._is_systematic = [], False

    def end_streak(self) -> None:
        """End the present streak, as a success or the end of the journal does."""
        if self._is_systematic:
            self.excused.update(number for number, _ in self._members)
            self._streak.kinds.clear()  # not the subjects' failures: they raise no share
        else:
            self._known.update(subject for _, subject in self._members)
        self._streak.record_success()
        self._members, self._is_systematic = [], False
