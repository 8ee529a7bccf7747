"""What Google's errors mean, whichever SDK carries them."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from email.utils import parsedate_to_datetime
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

_PER_DAY = re.compile(r"per[\s_-]*day|daily", re.IGNORECASE)
_PER_MINUTE = re.compile(r"per[\s_-]*(minute|second|hour)", re.IGNORECASE)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)s")
_DELAY_IN_WORDS = re.compile(r"retry in (?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)(m?s))?")
# "* Quota exceeded for metric: generativelanguage.googleapis.com/…_requests, limit: 20, model: …"
_EXCEEDED = re.compile(r"metric: *(\S+?), *limit: *(\d+)")
_NO_QUOTA = re.compile(
    r"limit: *0+(?![\d.,]*\d)|(doesn't|does not) have a free quota", re.IGNORECASE
)
# Messages about the account and its payment, never about an image. The text that comes with every
# spent quota ("check your plan and billing details") isn't one, hence the second expression.
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
# Statuses by google.rpc's own numbers, which single results of a batch job carry.
_RPC = {
    1: (499, "CANCELLED"), 3: (400, "INVALID_ARGUMENT"), 4: (504, "DEADLINE_EXCEEDED"),
    5: (404, "NOT_FOUND"), 7: (403, "PERMISSION_DENIED"), 8: (429, "RESOURCE_EXHAUSTED"),
    9: (400, "FAILED_PRECONDITION"), 10: (409, "ABORTED"), 11: (400, "OUT_OF_RANGE"),
    13: (500, "INTERNAL"), 14: (503, "UNAVAILABLE"), 16: (401, "UNAUTHENTICATED"),
}  # fmt: skip
_PASSING = (408, 409, 425, 499)  # client errors that may not occur again
SAFETY_CATEGORIES = (
    "HARM_CATEGORY_HARASSMENT",
    "HARM_CATEGORY_HATE_SPEECH",
    "HARM_CATEGORY_SEXUALLY_EXPLICIT",
    "HARM_CATEGORY_DANGEROUS_CONTENT",
)


def _details_of_type(details: Sequence[Any], name: str) -> list[Mapping[str, Any]]:
    """Return the google.rpc messages of one type among an error's details."""
    return [
        detail
        for detail in details
        if isinstance(detail, Mapping) and str(detail.get("@type", "")).endswith(f".{name}")
    ]


def _retry_delay(
    details: Sequence[Any], headers: Mapping[str, str] | None = None, message: str = ""
) -> float | None:
    """Return the seconds that RetryInfo, Retry-After or the message asks to wait, or None."""
    for info in _details_of_type(details, "RetryInfo"):
        if match := _DURATION.fullmatch(str(info.get("retryDelay", ""))):
            return float(match[1])
    if (after := _retry_after((headers or {}).get("retry-after", ""))) is not None:
        return after
    match = _DELAY_IN_WORDS.search(message)
    if not match or not any(match.groups()):
        return None
    hours, minutes, number, unit = match.groups()
    seconds = float(number or 0) / (1000 if unit == "ms" else 1)
    return 3600 * int(hours or 0) + 60 * int(minutes or 0) + seconds


def _retry_after(value: str) -> float | None:
    """Return the seconds that a Retry-After header asks to wait, or None if it can't be read.

    Args:
        value: seconds, also with a fraction, or a date.
    """
    if re.fullmatch(r"\d+(\.\d+)?", value):
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def _violations(details: Sequence[Any], message: str) -> list[list[Mapping[str, Any]]]:
    """Return for each quota that a 429 says is exceeded the violations that it may be.

    Where the message names metrics with their limits, those are the ones exceeded: the details may
    list all quotas of the model. Otherwise any of them may be.
    """
    named = [
        violation
        for failure in _details_of_type(details, "QuotaFailure")
        for violation in failure.get("violations", [])
        if isinstance(violation, Mapping)
    ]
    exceeded = [
        [v for v in named if (str(v.get("quotaMetric")), str(v.get("quotaValue"))) == quota]
        for quota in dict.fromkeys(_EXCEEDED.findall(message))
    ]
    return [quota for quota in exceeded if quota] or [named]


def _quota_error(
    text: str, message: str, details: Sequence[Any], delay: float | None
) -> ServiceError:
    """Return what a 429 means: wait, come back tomorrow, or never."""
    exceeded = _violations(details, message)
    zero = any(str(v.get("quotaValue", "")) == "0" for quota in exceeded for v in quota)
    if zero or _NO_QUOTA.search(message):
        return NoQuotaError(text)
    if _SPENT_ACCOUNT.search(message):
        return AccountError(text)
    day = False
    for quota in exceeded:
        names = [f"{v.get('quotaId', '')} {v.get('quotaMetric', '')}" for v in quota] or [message]
        if any(_PER_DAY.search(name) for name in names):
            if not any(_PER_MINUTE.search(name) for name in names):
                return DailyQuotaError(text)  # whatever else is exceeded, and the delay named
            day = True
    return ThrottledError(text, delay, day)


def is_account_message(message: str) -> bool:
    """Return whether an error's message is about the account, not about what was requested."""
    return bool(_ACCOUNT.search(message))


def _has_reason(details: Iterable[Any], reasons: set[str]) -> bool:
    return any(isinstance(d, Mapping) and d.get("reason") in reasons for d in details)


def to_service_error(
    code: int,
    status: str,
    message: str,
    details: Sequence[Any] = (),
    headers: Mapping[str, str] | None = None,
) -> ServiceError:
    """Return the typed error for an HTTP error of the Gemini API.

    Args:
        code: the HTTP status, or google.rpc's own number.
        status: google.rpc's name for it, or "".
        message: the error's text, without keys.
        details: google.rpc messages of the error's body.
        headers: the response's headers.
    """
    if code in _RPC:
        code, status = _RPC[code][0], status or _RPC[code][1]
    text = " ".join(f"HTTP {code} {status}: {message}".split()).rstrip(".:")
    delay = _retry_delay(details, headers, message)
    if code == 429:
        return _quota_error(text, message, details, delay)
    if code == 404:
        return UnknownModelError(text)
    if _has_reason(details, {"API_KEY_INVALID", "API_KEY_EXPIRED"}):
        return InvalidKeyError(text)
    if code == 400 and "api key" in message.lower():
        return InvalidKeyError(text)
    if code == 402 or (400 <= code < 500 and is_account_message(f"{status}: {message}")):
        return AccountError(text)
    if code in (401, 403, 407):
        return InvalidKeyError(text)
    if 400 <= code < 500 and code not in _PASSING:
        return RequestRefusedError(text)
    return ServiceError(text, delay)
