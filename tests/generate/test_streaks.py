from __future__ import annotations

from typing import Any

import pytest

from abo_vqa.generate.pairs import (
    BadAccount,
    BadKey,
    BadModel,
    DaySpent,
    NoQuota,
    Refused,
    Throttled,
    Trouble,
)
from abo_vqa.generate.streaks import Streak, gist
from abo_vqa.generate.vendor import trouble

RPC = "type.googleapis.com/google.rpc."
METRIC = "generativelanguage.googleapis.com/generate_content_free_tier_requests"


def quota(*violations: tuple[str, str | None], delay: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {
            "@type": RPC + "QuotaFailure",
            "violations": [
                {"quotaMetric": METRIC, "quotaId": name} | ({"quotaValue": n} if n else {})
                for name, n in violations
            ],
        }
    ]
    return found + ([{"@type": RPC + "RetryInfo", "retryDelay": delay}] if delay else [])


DAY, MINUTE = "GenerateRequestsPerDayPerProject", "GenerateRequestsPerMinutePerProject"
TEXT = "You exceeded your current quota, please check your plan and billing details. "


@pytest.mark.parametrize(
    ("code", "status", "message", "details", "expected"),
    [
        (400, "FAILED_PRECONDITION", "User location is not supported.", [], BadAccount),
        (400, "FAILED_PRECONDITION", "Anything.", [], BadAccount),
        (400, "INVALID_ARGUMENT", "Please enable billing on your project.", [], BadAccount),
        (402, "", "", [], BadAccount),
        (403, "PERMISSION_DENIED", "Generative Language API is disabled.", [], BadAccount),
        (403, "", "<html>Forbidden</html>", [], BadKey),
        (401, "UNAUTHENTICATED", "Who are you?", [], BadKey),
        (400, "INVALID_ARGUMENT", "API key not valid.", [], BadKey),
        (400, "INVALID_ARGUMENT", "Unable to process input image.", [], Refused),
        (413, "", "Too large.", [], Refused),
        (422, "", "", [], Refused),
        (451, "", "", [], Refused),
        (404, "NOT_FOUND", "models/x is not available to new users.", [], BadModel),
        (408, "", "", [], Trouble),
        (499, "CANCELLED", "", [], Trouble),
        (503, "UNAVAILABLE", "Overloaded.", [], Trouble),
        (9, "", "User location is not supported.", [], BadAccount),  # google.rpc's numbers
        (7, "", "", [], BadAccount),
        (3, "", "No.", [], Refused),
        (13, "", "", [], Trouble),
        (429, "", TEXT, [], Throttled),
        (429, "", "Your prepayment credits are depleted.", [], BadAccount),
        (429, "", "Your billing account has exceeded its monthly spending cap", [], BadAccount),
        (429, "", TEXT + "GenerateRequestsPerDay", [], DaySpent),
        (429, "", TEXT, quota((DAY, "250"), delay="29s"), DaySpent),
        (429, "", TEXT, quota((MINUTE, "10"), delay="29s"), Throttled),
        (429, "", TEXT, quota((DAY, "250"), (MINUTE, "10"), delay="9s"), Throttled),
        (429, "", TEXT, quota((MINUTE, "10"), (DAY, "250"), delay="9s"), Throttled),
        (429, "", TEXT + f"* metric: {METRIC}, limit: 250, model: m",
         quota((MINUTE, "10"), (DAY, "250"), delay="9s"), DaySpent),
        (429, "", TEXT + f"* metric: {METRIC}, limit: 10, model: m",
         quota((DAY, "250"), (MINUTE, "10")), Throttled),
        (429, "", TEXT + f"* metric: {METRIC}, limit: 0, model: m", [], NoQuota),
        (429, "", TEXT + f"* metric: {METRIC}, limit: 0", quota((DAY, None)), NoQuota),
        (429, "", TEXT, quota((DAY, "0"), (MINUTE, "0")), NoQuota),
        (429, "", "The model doesn't have a free quota tier.", [], NoQuota),
        (429, "", TEXT + f"* metric: {METRIC}, limit: 05, model: m", [], Throttled),
    ],
)  # fmt: skip
def test_what_errors_mean(
    code: int, status: str, message: str, details: list[Any], expected: type[Trouble]
) -> None:
    found = trouble(code, status, message, details)
    assert isinstance(found, expected)
    assert expected is BadKey or type(found) is expected


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("Please retry in 36.43s.", 36.43),
        ("Please retry in 386.5ms.", 0.3865),
        ("Please retry in 2m3s.", 123.0),
        ("Please retry in 10h32m6.4s.", 37926.4),
        ("Please retry in a while.", None),
    ],
)
def test_delay_in_words(said: str, seconds: float | None) -> None:
    assert trouble(429, "", said).delay == (seconds and pytest.approx(seconds))


def test_gist_is_what_requests_have_in_common() -> None:
    one = "HTTP 400 INVALID_ARGUMENT: image 14/14fe.jpg of request 8a7 is bad"
    assert gist(one) == gist(one.replace("14fe", "88aa").replace("8a7", "123"))
    assert gist(one) != gist(one.replace("400", "413"))
    assert gist(one) != gist(one.replace("bad", "empty"))


def counted(text: str) -> Streak:
    """A streak after successes (.) and failures of new pictures by kind (letters)."""
    streak = Streak()
    for i, letter in enumerate(text):
        if letter == ".":
            streak.success()
        else:
            streak.failure(str(i), letter)
    return streak


def test_streaks() -> None:
    assert not counted("....aaaa").hopeless
    assert counted("....aaaaa").hopeless
    assert counted("aaaaa").hopeless
    assert not counted("aaaa.aaaa").hopeless
    assert counted(".aaaabaaaaa").hopeless
    assert not counted(".ababababa").hopeless
    assert counted(".abababababab").hopeless  # of any kind
    assert counted(".a.a.aaaaa").hopeless  # too few to know how frequent they are
    assert not counted("..a" * 40 + "..aaaaaaaa").hopeless  # a third fails alone
    assert counted("..a" * 40 + ".." + "a" * 20).hopeless


def test_one_picture_makes_no_streak() -> None:
    streak = Streak()
    for _ in range(20):
        streak.failure("the same", "a")
    assert not streak.hopeless
