"""What errors of chat-completions servers mean, and how long they ask to wait."""

from __future__ import annotations

from email.utils import formatdate
from time import time

import pytest

from abo_vqa.remote.errors import (
    DailyQuotaError,
    NoQuotaError,
    RequestRefusedError,
    ServiceError,
    ThrottledError,
)
from abo_vqa.remote.openai_errors import error_from_body


def error(headers: dict[str, str], message: str = "Too many requests") -> ServiceError:
    return error_from_body(429, {"message": message}, headers)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "20"}, 20),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "soon"}, None),
        ({"retry-after-ms": "350"}, 0.35),
        (
            {
                "x-ratelimit-remaining-requests": "12",
                "x-ratelimit-reset-requests": "6m0s",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "1.2s",
            },
            1.2,
        ),
    ],
)
def test_delay(headers: dict[str, str], seconds: float | None) -> None:
    found = error(headers)
    assert isinstance(found, ThrottledError)
    assert found.delay == (seconds if seconds is None else pytest.approx(seconds))


def test_delay_as_a_date() -> None:
    delay = error({"retry-after": formatdate(time() + 90, usegmt=True)}).delay
    assert delay == pytest.approx(90, abs=5)


def test_a_day_without_a_delay_is_spent() -> None:
    assert isinstance(error({}, "Rate limit exceeded: free-models-per-day."), DailyQuotaError)


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        (429, "on requests per min (RPM): Limit 0, Used 0, Requested 1.", NoQuotaError),
        (429, "on tokens per min (TPM): Limit 300, Requested 1324. Reduce", RequestRefusedError),
        (413, "on tokens per minute (TPM): Limit 6000, Requested 9000,", RequestRefusedError),
        (429, "on tokens per min (TPM): Limit 3000, Used 2900, Requested 1324.", ThrottledError),
        (429, "on requests per min (RPM): Limit 3, Used 3, Requested 1.", ThrottledError),
        (429, "on requests per day (RPD): Limit 200, Used 200, Requested 1.", DailyQuotaError),
    ],
)
def test_the_numbers_of_a_quota(code: int, message: str, expected: type[ServiceError]) -> None:
    found = error_from_body(code, {"message": f"Rate limit reached for gpt-5-mini {message}"})
    assert type(found) is expected
    assert ("lower image_size" in str(found)) == (expected is RequestRefusedError)
