"""What journals say about images, after systematic failures are set aside.

Neither the run that meets a systematic failure nor a later one that reads the journal holds it
against an image; see `failure_streaks`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from abo_vqa.remote.failure_streaks import FailureStreak, error_kind
from abo_vqa.remote.http_errors import is_account_message
from abo_vqa.remote.journal import (
    DROPPED,
    EXCUSED,
    REOPENED,
    JournalEntry,
    journal_paths,
    no_pairs_reason,
    read_journal,
)


def load_history(folder: Path) -> list[JournalEntry]:
    """Return the entries of all journals in a folder: the main one's and the shards'.

    Those that count against no image are marked as `EXCUSED`.
    """
    entries = [
        entry
        for path in journal_paths(folder)
        for entry in _excuse_systematic_failures(read_journal(path).entries)
    ]
    return _excuse_reopened(entries)


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


def _emptiness_kind(entry: JournalEntry) -> str | None:
    """Return how a reply was empty; "" for a success, None if it counts as neither."""
    if entry.problem and not entry.problem.startswith("blocked"):
        return None
    if entry.pairs and entry.finish == "MAX_TOKENS":  # perhaps fewer than were asked for
        return None
    return empty_reply_kind(entry)


def _excuse_systematic_failures(entries: Sequence[JournalEntry]) -> list[JournalEntry]:
    """Mark refusals of the account, and whatever belongs to a systematic streak.

    Only journals of former versions hold refusals of the account: today those stop the run.
    What they cost still counts, and so do pairs that the quality filter rejected: its rules may
    change.
    """
    order = sorted(range(len(entries)), key=lambda i: entries[i].time)
    excused = {
        i
        for i, entry in enumerate(entries)
        if entry.problem.startswith("refused:") and is_account_message(entry.problem)
    }
    for kind_of in (_refusal_kind, _emptiness_kind):
        excused |= _systematic_failures(entries, order, kind_of)
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


def _systematic_failures(
    entries: Sequence[JournalEntry],
    order: Sequence[int],
    kind_of: Callable[[JournalEntry], str | None],
) -> set[int]:
    """Return the numbers of the entries in systematic streaks.

    Args:
        entries: a journal's entries.
        order: their numbers, by time.
        kind_of: returns how an entry failed; "" for a success, None if it counts as neither. Only
            an image's first failure counts.
    """
    result: set[int] = set()
    known: set[str] = set()  # images that have had an answer, or a failure of their own
    members: list[int] = []
    streak, systematic = FailureStreak(), False
    for i in [*order, None]:
        kind = "" if i is None else kind_of(entries[i])
        if kind is None:
            continue
        if i is None or not kind:
            if systematic:
                result.update(members)
                streak.kinds.clear()  # not the images' failures: they raise no share
            else:
                known.update(entries[j].image_path for j in members)
            streak.record_success()
            members, systematic = [], False
        if i is not None and not kind:
            known.add(entries[i].image_path)
        elif i is not None and entries[i].image_path not in known:
            streak.record_failure(entries[i].image_path, kind)
            members.append(i)
            systematic = systematic or streak.is_systematic
    return result
