"""What HTTP errors of services mean, whoever's they are and whichever SDK carries them.

`google_errors` and `openai_errors` know what is one vendor's own.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any

from abo_vqa.remote.errors import (
    AccountError,
    DailyQuotaError,
    InvalidKeyError,
    NoQuotaError,
    RefusedThinkingError,
    RequestRefusedError,
    ServiceError,
    ThrottledError,
    UnknownModelError,
)
from abo_vqa.remote.google_errors import (
    delay_in_words,
    http_status,
    rejects_key,
    retry_info_delay,
    violations,
)
from abo_vqa.remote.thinking_errors import refuses_thinking

_PER_DAY = re.compile(r"per[\s_-]*day|daily", re.IGNORECASE)
_PER_MINUTE = re.compile(r"per[\s_-]*(minute|second|hour)", re.IGNORECASE)
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
_PASSING = (408, 409, 425, 499)  # client errors that may not occur again


def _retry_delay(
    details: Sequence[Any], headers: Mapping[str, str] | None, message: str
) -> float | None:
    """Return the seconds that RetryInfo, Retry-After or the message asks to wait, or None."""
    if (delay := retry_info_delay(details)) is not None:
        return delay
    if (after := _retry_after((headers or {}).get("retry-after", ""))) is not None:
        return after
    return delay_in_words(message)


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


def _quota_error(
    text: str, message: str, details: Sequence[Any], delay: float | None
) -> ServiceError:
    """Return what a 429 means: wait, come back tomorrow, or never."""
    exceeded = violations(details, message)
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


def to_service_error(
    code: int,
    status: str,
    message: str,
    details: Sequence[Any] = (),
    headers: Mapping[str, str] | None = None,
) -> ServiceError:
    """Return the typed error for an HTTP error.

    Args:
        code: the HTTP status, or google.rpc's own number.
        status: the vendor's name for it, or "".
        message: the error's text.
        details: google.rpc messages of the error's body.
        headers: the response's headers.
    """
    code, status = http_status(code, status)
    text = " ".join(f"HTTP {code} {status}: {message}".split()).rstrip(".:")
    delay = _retry_delay(details, headers, message)
    if code == 429:
        return _quota_error(text, message, details, delay)
    if code == 404:
        return UnknownModelError(text)
    if rejects_key(details):
        return InvalidKeyError(text)
    if code == 400 and "api key" in message.lower():
        return InvalidKeyError(text)
    if code == 402 or (400 <= code < 500 and is_account_message(f"{status}: {message}")):
        return AccountError(text)
    if code in (401, 403, 407):
        return InvalidKeyError(text)
    if code in (400, 422) and refuses_thinking(message):
        return RefusedThinkingError(text)
    if 400 <= code < 500 and code not in _PASSING:
        return RequestRefusedError(text)
    return ServiceError(text, delay)
