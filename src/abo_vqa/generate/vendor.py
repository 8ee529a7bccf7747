"""What Google's errors mean, whichever SDK carries them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from abo_vqa.generate.pairs import (
    BadKey,
    BadModel,
    DaySpent,
    Refused,
    Throttled,
    Trouble,
)

PER_DAY = re.compile(r"per\s*day|daily|PerDay", re.IGNORECASE)
DURATION = re.compile(r"(\d+(?:\.\d+)?)s")
SAFETY_CATEGORIES = (
    "HARM_CATEGORY_HARASSMENT",
    "HARM_CATEGORY_HATE_SPEECH",
    "HARM_CATEGORY_SEXUALLY_EXPLICIT",
    "HARM_CATEGORY_DANGEROUS_CONTENT",
)


def of_type(details: Sequence[Any], name: str) -> list[Mapping[str, Any]]:
    """The google.rpc messages of one type among an error's details."""
    return [
        detail
        for detail in details
        if isinstance(detail, Mapping) and str(detail.get("@type", "")).endswith(f".{name}")
    ]


def retry_delay(details: Sequence[Any], headers: Mapping[str, str] | None = None) -> float | None:
    """Seconds that the server asks to wait: google.rpc.RetryInfo, else the Retry-After header."""
    for info in of_type(details, "RetryInfo"):
        if match := DURATION.fullmatch(str(info.get("retryDelay", ""))):
            return float(match[1])
    after = (headers or {}).get("retry-after", "")
    return float(after) if after.isdecimal() else None


def per_day(details: Sequence[Any], message: str) -> bool:
    """Whether a 429 is about a quota per day; with QuotaFailure it says which quotas."""
    names = [
        f"{violation.get('quotaId', '')} {violation.get('quotaMetric', '')}"
        for failure in of_type(details, "QuotaFailure")
        for violation in failure.get("violations", [])
    ]
    return any(PER_DAY.search(name) for name in names or [message])


def has_reason(details: Iterable[Any], reasons: set[str]) -> bool:
    return any(isinstance(d, Mapping) and d.get("reason") in reasons for d in details)


def trouble(
    code: int,
    status: str,
    message: str,
    details: Sequence[Any] = (),
    headers: Mapping[str, str] | None = None,
) -> Trouble:
    """The typed error for an HTTP error of the Gemini API.

    Args:
        message: already free of keys. details: google.rpc messages of the error's body.
    """
    said = f"HTTP {code} {status}: {message}".strip()
    delay = retry_delay(details, headers)
    if code == 429:
        return (DaySpent if per_day(details, message) else Throttled)(said, delay)
    if code in (401, 403) or has_reason(details, {"API_KEY_INVALID", "API_KEY_EXPIRED"}):
        return BadKey(said)
    if code == 400 and "api key" in message.lower():
        return BadKey(said)
    if code == 404:
        return BadModel(said)
    if code in (400, 413):
        return Refused(said)
    return Trouble(said, delay)
