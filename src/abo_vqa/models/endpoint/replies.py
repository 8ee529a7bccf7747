"""What a service has replied to each question so far: in the journals, and in the present run."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from abo_vqa.models.answers import Answer
from abo_vqa.models.endpoint.questions import CONTROL_KEYS, VERDICT_KEY
from abo_vqa.remote.failure_streaks import FailureStreak
from abo_vqa.remote.history import StreakHistory, is_persistent
from abo_vqa.remote.journal import CUT_OFF_REASON, JournalEntry

_MAX_EMPTY = 3  # replies without an answer before a question is given up
_MAX_PERSISTENT = 2  # the same where the next reply will hardly be better
# How open-weight models that reason mark what is the answer (GLM-4.1V, those trained like R1).
_MARKED = re.compile(r"<answer>(.*?)</answer>|<\|begin_of_box\|>(.*?)<\|end_of_box\|>", re.DOTALL)
_FENCE = re.compile(r"\A```(?:[\w+-]*[ \t]*\n)?(.*?)```\Z", re.DOTALL)


@dataclass
class EmptyReplies:
    """Replies to a question that brought no answer.

    Attributes:
        count: how many there were.
        kind: how the last one failed.
        is_final: whether asking again is useless: the vendor has blocked the question.
    """

    count: int = 0
    kind: str = ""
    is_final: bool = False

    @property
    def is_open(self) -> bool:
        """Whether another reply may bring the answer."""
        most = _MAX_PERSISTENT if is_persistent(self.kind) else _MAX_EMPTY
        return not self.is_final and self.count < most


class ReplyRecord:
    """The answers and the empty replies, by the question's key.

    There may be hundreds of thousands: of an answer only its text is kept, once for all that are
    alike.

    Attributes:
        streak: the questions without an answer that the newest journal ends with, which the present
            run goes on with; successes and single failures of all journals.
    """

    def __init__(self) -> None:
        """Start with nothing."""
        self.streak = FailureStreak()
        self._newest = 0.0  # Unix seconds: the last entry of the journals
        self._answers: dict[str, str] = {}
        self._empty: dict[str, EmptyReplies] = {}

    def add_journal(self, entries: Iterable[JournalEntry]) -> None:
        """Take the entries of a journal into account, in its order.

        Replies that belong to a systematic failure (a wrong setting, a broken server) are held
        against no question: it is asked again.
        """
        streaks, failures, last = StreakHistory(), {}, 0.0
        for number, entry in enumerate(entries):
            last = max(last, entry.time)
            if entry.key == VERDICT_KEY and not failure_kind(entry):
                streaks.acquit()
            if entry.key in CONTROL_KEYS:
                continue
            kind = failure_kind(entry)
            streaks.add(number, entry.key, kind)
            if kind:
                failures[number] = entry
            else:
                self.add(entry)
        self._continue_streak(streaks.open_streak, last)
        streaks.end_streak()
        for number, entry in failures.items():
            if number not in streaks.excused:
                self.add(entry)

    def _continue_streak(self, journal: FailureStreak, last: float) -> None:
        """Add a journal's counts, and go on with its streak if it is the newest journal so far."""
        self.streak.successes += journal.successes
        self.streak.single_failures += journal.single_failures
        if last >= self._newest:
            self._newest, self.streak.kinds = last, journal.kinds

    def add(self, entry: JournalEntry) -> None:
        """Take a reply into account."""
        kind = failure_kind(entry)
        if not kind:
            self._answers[entry.key] = sys.intern(entry.pairs[0].answer)
            self._empty.pop(entry.key, None)
        elif entry.key not in self._answers:
            empty = self._empty.setdefault(entry.key, EmptyReplies())
            empty.count += 1
            empty.kind, empty.is_final = kind, entry.is_final

    @property
    def answered(self) -> int:
        """The number of questions with an answer."""
        return len(self._answers)

    def empty_replies(self, key: str) -> int:
        """Return how many replies to a question brought no answer."""
        empty = self._empty.get(key)
        return empty.count if empty else 0

    def is_open(self, key: str) -> bool:
        """Return whether a question is to be asked, for the first time or again."""
        empty = self._empty.get(key)
        return key not in self._answers and (empty is None or empty.is_open)

    def answer(self, key: str) -> Answer:
        """Return the answer to a question that isn't open, or the error why there is none."""
        text = self._answers.get(key)
        if text is not None:
            return Answer(text)
        kind = self._empty[key].kind
        if kind == CUT_OFF_REASON:
            return Answer("", None, "the reply was cut off by max_output_tokens (MAX_TOKENS)")
        return Answer("", None, f"the model wrote no answer ({kind})")


def failure_kind(entry: JournalEntry) -> str:
    """Return how a reply failed to bring an answer, or "" if it brought one."""
    if entry.pairs and entry.finish != CUT_OFF_REASON:
        return ""
    return entry.problem or entry.finish or "unreadable"


def answer_text(text: str, finish: str) -> str:
    """Return the answer in a reply's text: one line, without a code fence or marks around it.

    Args:
        text: the reply's text.
        finish: why the model stopped. What is cut off may be the beginning of its reasoning, and is
            no answer.
    """
    if finish == CUT_OFF_REASON:
        return ""
    marked = [first or second for first, second in _MARKED.findall(text)]
    text = marked[-1] if marked else text
    fenced = _FENCE.match(text.strip())
    return " ".join((fenced[1] if fenced else text).split())
