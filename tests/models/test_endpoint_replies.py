"""What an endpoint's journals say about questions."""

from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from abo_vqa.data.pairs import Pair
from abo_vqa.models.answers import Answer
from abo_vqa.models.endpoint.questions import VERDICT_KEY
from abo_vqa.models.endpoint.replies import ReplyRecord, answer_text
from abo_vqa.remote.journal import AnnotationJournal, JournalEntry, JournalReader

TEXT = "Answer the question about the image with one word.\nwhat color is it?"


def reply(key: str, answer: str = "", finish: str = "STOP", problem: str = "") -> JournalEntry:
    """A reply about an image; all images are asked the same question."""
    pairs = (Pair(TEXT, answer),) if answer else ()
    return JournalEntry(TEXT, key, pairs, finish=finish, problem=problem)


def record(*entries: JournalEntry) -> ReplyRecord:
    replies = ReplyRecord()
    replies.add_journal(entries)
    return replies


def test_a_streak_of_empty_replies_is_held_against_no_question() -> None:
    empty = [reply(f"e{i}") for i in range(5)]
    replies = record(reply("a", "red"), *empty, reply("b", "blue"), reply("c"), reply("d", "two"))
    assert replies.answered == 3
    assert [replies.empty_replies(entry.key) for entry in empty] == [0] * 5
    assert replies.empty_replies("c") == 1
    # At the journal's end as well, where the run was stopped.
    assert record(reply("a", "red"), *empty).empty_replies("e0") == 0
    # Four may be chance, and one question is no streak however often it is asked.
    assert record(reply("a", "red"), *empty[:4]).empty_replies("e0") == 1
    assert record(reply("a", "red"), *[reply("e")] * 5).empty_replies("e") == 5


def test_a_streak_goes_on_in_the_next_run() -> None:
    empty = [reply(f"e{i}") for i in range(6)]
    streak = record(reply("a", "red"), *empty[:3]).streak
    assert (list(streak.kinds), streak.is_systematic) == (["e0", "e1", "e2"], False)
    assert streak.max_pending(16) == 2
    streak = record(reply("a", "red"), *empty[:5]).streak
    assert (streak.is_systematic, streak.max_pending(16)) == (True, 1)
    streak.record_success()
    assert (streak.kinds, streak.single_failures, streak.max_pending(16)) == ({}, 0, 16)
    assert record(*empty[:5], reply("a", "red"), empty[5]).streak.kinds == {"e5": "STOP"}
    # Of several processes' journals the one that was written last.
    replies = ReplyRecord()
    replies.add_journal(replace(entry, time=float(i)) for i, entry in enumerate(empty))
    replies.add_journal([replace(reply("a", "red"), time=2.0)])
    assert len(replies.streak.kinds) == 6
    replies.add_journal([replace(reply("a", "red"), time=9.0)])
    assert replies.streak.kinds == {}


def test_an_answered_verdict_leaves_a_streak_to_its_questions() -> None:
    empty = [reply(f"e{i}", finish="REFUSAL") for i in range(5)]
    for verdict, tries in (("grey", 1), ("", 0)):
        replies = record(reply("a", "red"), *empty, reply(VERDICT_KEY, verdict))
        assert replies.empty_replies("e0") == tries
        assert replies.empty_replies(VERDICT_KEY) == 0
        assert len(replies.streak.kinds) == 5 * (1 - tries)


def test_what_is_asked_again() -> None:
    others = [reply("a", "red")]
    for entry, tries in (
        (reply("q"), 3),
        (reply("q", finish="MAX_TOKENS"), 2),
        (reply("q", "Okay, the user", finish="MAX_TOKENS"), 2),  # of a journal of former versions
        (reply("q", finish="REFUSAL"), 2),
        (reply("q", problem="blocked: PROHIBITED_CONTENT"), 1),
    ):
        for count in range(1, tries + 1):
            replies = record(*others, *[entry] * count)
            assert replies.is_open("q") == (count < tries)
        assert replies.answer("q").error
        replies.add(reply("q", "blue"))
        assert not replies.is_open("q")
        assert replies.answer("q") == Answer("blue")
    assert record().is_open("q")


@pytest.mark.parametrize(
    ("text", "finish", "answer"),
    [
        ("blue", "STOP", "blue"),
        ("```json\nblue\n```", "STOP", "blue"),
        ("```\nlight  blue```\n", "STOP", "light blue"),
        ("``` blue ```", "STOP", "blue"),
        ("```light blue```", "STOP", "light blue"),
        ("the ``` key", "STOP", "the ``` key"),
        ("It is <answer>light\nblue</answer>", "STOP", "light blue"),
        ("<answer>no</answer> Wait: <|begin_of_box|>blue<|end_of_box|>.", "STOP", "blue"),
        ("bl", "MAX_TOKENS", ""),
        (" \n", "STOP", ""),
    ],
)
def test_answer_in_a_text(text: str, finish: str, answer: str) -> None:
    assert answer_text(text, finish) == answer


def test_a_large_journal_takes_little_memory(tmp_path: Path) -> None:
    count = 5000

    def entries() -> Iterator[JournalEntry]:
        for i in range(count):
            yield reply(hashlib.sha256(str(i).encode()).hexdigest(), f"word {i % 10}")

    path = tmp_path / "replies-0.jsonl"
    with AnnotationJournal(path, {}) as journal:
        journal.extend(entries())
    replies = ReplyRecord()
    tracemalloc.start()
    try:
        with AnnotationJournal(path, {}):
            replies.add_journal(JournalReader(path))
            bytes_each = tracemalloc.get_traced_memory()[0] / count
    finally:
        tracemalloc.stop()
    assert replies.answered == count
    assert bytes_each < 350  # an entry is 2 KB, its key alone 113 bytes
