from __future__ import annotations

from typing import Any

import pytest

from abo_vqa.remote.errors import (
    AccountError,
    DailyQuotaError,
    InvalidKeyError,
    NoQuotaError,
    RequestRefusedError,
    ServiceError,
    ThrottledError,
    UnknownModelError,
)
from abo_vqa.remote.failure_streaks import FailureStreak, error_kind
from abo_vqa.remote.http_errors import to_service_error

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
        (400, "FAILED_PRECONDITION", "User location is not supported.", [], AccountError),
        (400, "FAILED_PRECONDITION", "Anything.", [], AccountError),
        (400, "INVALID_ARGUMENT", "Please enable billing on your project.", [], AccountError),
        (402, "", "", [], AccountError),
        (403, "PERMISSION_DENIED", "Generative Language API is disabled.", [], AccountError),
        (403, "", "<html>Forbidden</html>", [], InvalidKeyError),
        (401, "UNAUTHENTICATED", "Who are you?", [], InvalidKeyError),
        (400, "INVALID_ARGUMENT", "API key not valid.", [], InvalidKeyError),
        (400, "INVALID_ARGUMENT", "Unable to process input image.", [], RequestRefusedError),
        (413, "", "Too large.", [], RequestRefusedError),
        (422, "", "", [], RequestRefusedError),
        (451, "", "", [], RequestRefusedError),
        (404, "NOT_FOUND", "models/x is not available to new users.", [], UnknownModelError),
        (408, "", "", [], ServiceError),
        (499, "CANCELLED", "", [], ServiceError),
        (503, "UNAVAILABLE", "Overloaded.", [], ServiceError),
        (9, "", "User location is not supported.", [], AccountError),  # google.rpc's numbers
        (7, "", "", [], AccountError),
        (3, "", "No.", [], RequestRefusedError),
        (13, "", "", [], ServiceError),
        (429, "", TEXT, [], ThrottledError),
        (429, "", "Your prepayment credits are depleted.", [], AccountError),
        (429, "", "Your billing account has exceeded its monthly spending cap", [], AccountError),
        (429, "", TEXT + "GenerateRequestsPerDay", [], DailyQuotaError),
        (429, "", TEXT, quota((DAY, "250"), delay="29s"), DailyQuotaError),
        (429, "", TEXT, quota((MINUTE, "10"), delay="29s"), ThrottledError),
        (429, "", TEXT, quota((DAY, "250"), (MINUTE, "10"), delay="9s"), ThrottledError),
        (429, "", TEXT, quota((MINUTE, "10"), (DAY, "250"), delay="9s"), ThrottledError),
        (429, "", TEXT + f"* metric: {METRIC}, limit: 250, model: m",
         quota((MINUTE, "10"), (DAY, "250"), delay="9s"), DailyQuotaError),
        (429, "", TEXT + f"* metric: {METRIC}, limit: 10, model: m",
         quota((DAY, "250"), (MINUTE, "10")), ThrottledError),
        (429, "", TEXT + f"* metric: {METRIC}, limit: 250\n* metric: {METRIC}, limit: 10",
         quota((DAY, "250"), (MINUTE, "10"), delay="9s"), DailyQuotaError),  # both exceeded
        (429, "", TEXT + f"* metric: {METRIC}, limit: 20", quota((DAY, "20"), (MINUTE, "20")),
         ThrottledError),  # either
        (429, "", TEXT + "* metric: a.com/generate_requests_per_model_per_day, limit: 250", [],
         DailyQuotaError),
        (429, "", TEXT + f"* metric: {METRIC}, limit: 0, model: m", [], NoQuotaError),
        (429, "", TEXT + f"* metric: {METRIC}, limit: 0", quota((DAY, None)), NoQuotaError),
        (429, "", TEXT, quota((DAY, "0"), (MINUTE, "0")), NoQuotaError),
        (429, "", "The model doesn't have a free quota tier.", [], NoQuotaError),
        (429, "", TEXT + f"* metric: {METRIC}, limit: 05, model: m", [], ThrottledError),
    ],
)  # fmt: skip
def test_what_errors_mean(
    code: int, status: str, message: str, details: list[Any], expected: type[ServiceError]
) -> None:
    found = to_service_error(code, status, message, details)
    assert isinstance(found, expected)
    assert expected is InvalidKeyError or type(found) is expected


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
    assert to_service_error(429, "", said).delay == (seconds and pytest.approx(seconds))


def test_kind_is_what_requests_have_in_common() -> None:
    one = "HTTP 400 INVALID_ARGUMENT: image 14/14fe.jpg of request 8a7 is bad"
    assert error_kind(one) == error_kind(one.replace("14fe", "88aa").replace("8a7", "123"))
    assert error_kind(one) != error_kind(one.replace("400", "413"))
    assert error_kind(one) != error_kind(one.replace("bad", "empty"))


def counted(text: str) -> FailureStreak:
    """A streak after successes (.) and failures of new images by kind (letters)."""
    streak = FailureStreak()
    for i, letter in enumerate(text):
        if letter == ".":
            streak.record_success()
        else:
            streak.record_failure(str(i), letter)
    return streak


def test_streaks() -> None:
    assert not counted("....aaaa").is_systematic
    assert counted("....aaaaa").is_systematic
    assert counted("aaaaa").is_systematic
    assert not counted("aaaa.aaaa").is_systematic
    assert counted(".aaaabaaaaa").is_systematic
    assert not counted(".ababababa").is_systematic
    assert counted(".abababababab").is_systematic  # of any kind
    assert counted(".a.a.aaaaa").is_systematic  # too few to know how frequent they are
    assert not counted("..a" * 40 + "..aaaaaaaa").is_systematic  # a third fails alone
    assert counted("..a" * 40 + ".." + "a" * 20).is_systematic


def test_one_image_makes_no_streak() -> None:
    streak = FailureStreak()
    for _ in range(20):
        streak.record_failure("the same", "a")
    assert not streak.is_systematic
