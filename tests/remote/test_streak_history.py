"""What a systematic failure leaves behind: no entry of it is held against what it was about."""

from __future__ import annotations

from abo_vqa.remote.failure_streaks import MIN_STREAK
from abo_vqa.remote.history import StreakHistory


def excused(outcomes: list[tuple[str, str]]) -> set[int]:
    """Return the numbers of the excused entries among subjects and how they failed."""
    streaks = StreakHistory()
    for number, (subject, kind) in enumerate(outcomes):
        streaks.add(number, subject, kind)
    streaks.end_streak()
    return streaks.excused


def test_a_streak_excuses_those_that_had_failed_alone_before() -> None:
    """Replies on their way at its beginning arrive between the last good ones."""
    alone = [("a", "STOP"), ("b", "")]
    streak = [(f"q{i}", "STOP") for i in range(MIN_STREAK)]
    again = [("a", "STOP")]
    assert excused(alone + streak + again) == set(range(2, 3 + MIN_STREAK))


def test_failures_of_its_own_are_no_evidence_of_a_streak() -> None:
    alone = [("a", "STOP"), ("b", "")]
    short = [(f"q{i}", "STOP") for i in range(MIN_STREAK - 1)]
    assert excused([*alone, *short, ("a", "STOP"), ("a", "STOP")]) == set()
