"""Pictures that fail alike one after the other: then it isn't the pictures.

A picture that the vendor refuses, or gets nothing out of, is left out. When the account is refused,
or a setting is wrong, that would leave out all the rest of a set. So failures with no success
between them are counted, and what belongs to such a streak is nobody's fault: neither the run that
meets it nor a later one that reads the journal holds it against a picture.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from abo_vqa.remote.google_errors import about_account
from abo_vqa.remote.journal import DROPPED, EXCUSED, REOPENED, Entry, no_pairs

ALIKE = 5  # pictures in a row that fail alike before a run stops
_SAMPLE = 50  # pictures before a share of single failures is believed
_MOST_SHARE = 0.9  # of failures before a streak that are believed to be the pictures' own
_RARE = 1e-6  # how probable a streak by chance may be

_VARIABLE = re.compile(r"\S*[\d/\\]\S*")


@dataclass
class Streak:
    """Counts failures of different pictures with no success between them.

    Attributes:
        good, bad: successes so far, and failures that others' success has shown to be single.
        kinds: the pictures of the present streak in order, each with how it failed.
    """

    good: int = 0
    bad: int = 0
    kinds: dict[str, str] = field(default_factory=dict)

    def success(self) -> None:
        self.good += 1
        self.bad += len(self.kinds)
        self.kinds.clear()

    def failure(self, image: str, kind: str) -> None:
        self.kinds.pop(image, None)
        self.kinds[image] = kind

    @property
    def alike(self) -> int:
        """How many pictures failed in the same way since the last that failed otherwise."""
        kinds = list(self.kinds.values())[::-1]
        return next((i for i, kind in enumerate(kinds) if kind != kinds[0]), len(kinds))

    @property
    def enough(self) -> int:
        """Failures in a row that can't be chance; more where single failures are frequent."""
        if not self.bad or self.good + self.bad < _SAMPLE:
            return ALIKE
        share = min(_MOST_SHARE, self.bad / (self.good + self.bad))
        return max(ALIKE, math.ceil(math.log(_RARE) / math.log(share)))

    @property
    def hopeless(self) -> bool:
        """Whether it isn't the pictures: enough alike, or twice as many of any kind."""
        return self.alike >= self.enough or len(self.kinds) >= 2 * self.enough


def gist(message: str) -> str:
    """An error's message without what differs from request to request: numbers, names, paths."""
    head, colon, rest = message.partition(":")
    return f"{head}{colon}{_VARIABLE.sub('#', rest)}".lower()


def fruitless(entry: Entry) -> str:
    """How a reply failed to bring a single pair, or "" if it brought one."""
    if entry.pairs:
        return ""
    if entry.problem:
        return entry.problem
    if not entry.rejects:
        return no_pairs(entry)
    (reason, _), *_ = Counter(reject.reason for reject in entry.rejects).most_common(1)
    return reason


def refusal(entry: Entry) -> str | None:
    """How an entry counts in the streak of refusals: "" a success, None not at all."""
    if entry.problem.startswith("refused:"):
        return gist(entry.problem.removeprefix("refused:").strip())
    return None if entry.problem and not entry.problem.startswith("blocked") else ""


def _emptiness(entry: Entry) -> str | None:
    """How an entry counts in the streak of replies without pairs."""
    if entry.problem and not entry.problem.startswith("blocked"):
        return None
    return fruitless(entry)


def excuse(entries: Sequence[Entry]) -> list[Entry]:
    """A journal's entries, those marked that say nothing about their pictures.

    These are refusals of the account, and whatever belongs to a streak. What they cost still
    counts, and so do pairs that the gate turned down: its rules may change.
    """
    order = sorted(range(len(entries)), key=lambda i: entries[i].time)
    excused = {i for i, entry in enumerate(entries) if _of_account(entry)}
    for counts in (refusal, _emptiness):
        excused |= streaks(entries, order, counts)
    return [
        replace(entry, problem=f"{EXCUSED}: {entry.problem or no_pairs(entry)}")
        if i in excused and not entry.offered
        else entry
        for i, entry in enumerate(entries)
    ]


def reopened(entries: Sequence[Entry]) -> list[Entry]:
    """The entries, those marked that a later one takes back."""
    since = {(entry.image, entry.key): entry.time for entry in entries if entry.problem == REOPENED}
    return [
        replace(entry, problem=f"{EXCUSED}: {entry.problem}")
        if entry.problem.startswith(("refused", "failed", DROPPED))
        and entry.time <= since.get((entry.image, entry.key), -1.0)
        else entry
        for entry in entries
    ]


def _of_account(entry: Entry) -> bool:
    return entry.problem.startswith("refused:") and about_account(entry.problem)


def streaks(
    entries: Sequence[Entry], order: Sequence[int], counts: Callable[[Entry], str | None]
) -> set[int]:
    """The numbers of the entries that belong to streaks. Only a picture's first failure counts."""
    found: set[int] = set()
    known: set[str] = set()  # pictures that have had an answer, or a failure of their own
    members: list[int] = []
    streak, hopeless = Streak(), False
    for i in [*order, None]:
        kind = "" if i is None else counts(entries[i])
        if kind is None:
            continue
        if i is None or not kind:
            if hopeless:
                found.update(members)
                streak.kinds.clear()  # nobody's failures: they raise no share
            else:
                known.update(entries[j].image for j in members)
            streak.success()
            members, hopeless = [], False
        if i is not None and not kind:
            known.add(entries[i].image)
        elif i is not None and entries[i].image not in known:
            streak.failure(entries[i].image, kind)
            members.append(i)
            hopeless = hopeless or streak.hopeless
    return found
