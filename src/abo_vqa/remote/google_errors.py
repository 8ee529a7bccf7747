"""What Google's errors mean, whichever SDK carries them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

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

_PER_DAY = re.compile(r"per\s*day|daily|PerDay", re.IGNORECASE)
_PER_MINUTE = re.compile(r"per\s*(minute|second|hour)", re.IGNORECASE)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)s")
_SAID_DELAY = re.compile(r"retry in (?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)(m?s))?")
# "* Quota exceeded for metric: generativelanguage.googleapis.com/…_requests, limit: 20, model: …"
_EXCEEDED = re.compile(r"metric: *(\S+?), *limit: *(\d+)")
_NO_QUOTA = re.compile(
    r"limit: *0+(?![\d.,]*\d)|(doesn't|does not) have a free quota", re.IGNORECASE
)
# What is about who asks and what they pay, never about a picture. The text that comes with every
# spent quota ("check your plan and billing details") is none of it, hence the second expression.
_ACCOUNT = re.compile(
    r"FAILED_PRECONDITION|PERMISSION_DENIED|PAYMENT_REQUIRED|UNAUTHENTICATED|user location"
    r"|not (available|supported) in your (country|region|location)|billing|prepay|credits?\b"
    r"|spend(ing)? (cap|limit)|payment|suspended|deactivated|your (account|project|plan)"
    r"|this (account|project)",
    re.IGNORECASE,
)
_SPENT_ACCOUNT = re.compile(
    r"prepay|credits?\b[^.]*(deplet|exhaust|used up|run out|insufficient)|spend(ing)? (cap|limit)"
    r"|billing[^.]*(disabled|not (enabled|active)|closed|suspended)|suspended",
    re.IGNORECASE,
)
# Statuses by google.rpc's own numbers, which single answers of a batch job carry.
_RPC = {
    1: (499, "CANCELLED"), 3: (400, "INVALID_ARGUMENT"), 4: (504, "DEADLINE_EXCEEDED"),
    5: (404, "NOT_FOUND"), 7: (403, "PERMISSION_DENIED"), 8: (429, "RESOURCE_EXHAUSTED"),
    9: (400, "FAILED_PRECONDITION"), 10: (409, "ABORTED"), 11: (400, "OUT_OF_RANGE"),
    13: (500, "INTERNAL"), 14: (503, "UNAVAILABLE"), 16: (401, "UNAUTHENTICATED"),
}  # fmt: skip
_PASSING = (408, 409, 425, 499)  # client errors that another try may not meet
SAFETY_CATEGORIES = (
    "HARM_CATEGORY_HARASSMENT",
    "HARM_CATEGORY_HATE_SPEECH",
    "HARM_CATEGORY_SEXUALLY_EXPLICIT",
    "HARM_CATEGORY_DANGEROUS_CONTENT",
)


def _of_type(details: Sequence[Any], name: str) -> list[Mapping[str, Any]]:
    """The google.rpc messages of one type among an error's details."""
    return [
        detail
        for detail in details
        if isinstance(detail, Mapping) and str(detail.get("@type", "")).endswith(f".{name}")
    ]


def _retry_delay(
    details: Sequence[Any], headers: Mapping[str, str] | None = None, message: str = ""
) -> float | None:
    """Seconds that the server asks to wait: google.rpc.RetryInfo, Retry-After, or its words."""
    for info in _of_type(details, "RetryInfo"):
        if match := _DURATION.fullmatch(str(info.get("retryDelay", ""))):
            return float(match[1])
    after = (headers or {}).get("retry-after", "")
    if after.isdecimal():
        return float(after)
    said = _SAID_DELAY.search(message)
    if not said or not any(said.groups()):
        return None
    hours, minutes, number, unit = said.groups()
    seconds = float(number or 0) / (1000 if unit == "ms" else 1)
    return 3600 * int(hours or 0) + 60 * int(minutes or 0) + seconds


def violations(details: Sequence[Any], message: str) -> list[Mapping[str, Any]]:
    """The quotas that a 429 is about.

    Where the message names metrics with their limits, those are the ones exceeded: the details may
    list all quotas of the model.
    """
    named = [
        violation
        for failure in _of_type(details, "QuotaFailure")
        for violation in failure.get("violations", [])
        if isinstance(violation, Mapping)
    ]
    exceeded = set(_EXCEEDED.findall(message))
    return [
        v for v in named if (str(v.get("quotaMetric")), str(v.get("quotaValue"))) in exceeded
    ] or named


def _quota_trouble(
    said: str, message: str, details: Sequence[Any], delay: float | None
) -> ServiceError:
    """What a 429 means: wait, come back tomorrow, or never."""
    found = violations(details, message)
    if _NO_QUOTA.search(message) or any(str(v.get("quotaValue", "")) == "0" for v in found):
        return NoQuotaError(said)
    if _SPENT_ACCOUNT.search(message):
        return AccountError(said)
    names = [f"{v.get('quotaId', '')} {v.get('quotaMetric', '')}" for v in found] or [message]
    day = any(_PER_DAY.search(name) for name in names)
    if day and not any(_PER_MINUTE.search(name) for name in names):
        return DailyQuotaError(said)
    return ThrottledError(said, delay, day)


def about_account(message: str) -> bool:
    """Whether a refusal's words are about the account, not about what was asked."""
    return bool(_ACCOUNT.search(message))


def _has_reason(details: Iterable[Any], reasons: set[str]) -> bool:
    return any(isinstance(d, Mapping) and d.get("reason") in reasons for d in details)


def trouble(
    code: int,
    status: str,
    message: str,
    details: Sequence[Any] = (),
    headers: Mapping[str, str] | None = None,
) -> ServiceError:
    """The typed error for an HTTP error of the Gemini API.

    Args:
        message: already free of keys. details: google.rpc messages of the error's body.
    """
    if code in _RPC:
        code, status = _RPC[code][0], status or _RPC[code][1]
    said = " ".join(f"HTTP {code} {status}: {message}".split()).rstrip(".:")
    delay = _retry_delay(details, headers, message)
    if code == 429:
        return _quota_trouble(said, message, details, delay)
    if code == 404:
        return UnknownModelError(said)
    if _has_reason(details, {"API_KEY_INVALID", "API_KEY_EXPIRED"}):
        return InvalidKeyError(said)
    if code == 400 and "api key" in message.lower():
        return InvalidKeyError(said)
    if code == 402 or (400 <= code < 500 and about_account(f"{status}: {message}")):
        return AccountError(said)
    if code in (401, 403, 407):
        return InvalidKeyError(said)
    if 400 <= code < 500 and code not in _PASSING:
        return RequestRefusedError(said)
    return ServiceError(said, delay)
