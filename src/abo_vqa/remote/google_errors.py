"""What is Google's own in errors: google.rpc's details and numbers, and its messages' wording.

Google's SDKs carry them, and so does its endpoint that is compatible with OpenAI's. What they and
other services have in common is in `http_errors`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_DURATION = re.compile(r"(\d+(?:\.\d+)?)s")
_DELAY_IN_WORDS = re.compile(r"retry in (?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)(m?s))?")
# "* Quota exceeded for metric: generativelanguage.googleapis.com/…_requests, limit: 20, model: …"
_EXCEEDED = re.compile(r"metric: *(\S+?), *limit: *(\d+)")
# Statuses by google.rpc's own numbers, which single results of a batch job carry.
_RPC = {
    1: (499, "CANCELLED"), 3: (400, "INVALID_ARGUMENT"), 4: (504, "DEADLINE_EXCEEDED"),
    5: (404, "NOT_FOUND"), 7: (403, "PERMISSION_DENIED"), 8: (429, "RESOURCE_EXHAUSTED"),
    9: (400, "FAILED_PRECONDITION"), 10: (409, "ABORTED"), 11: (400, "OUT_OF_RANGE"),
    13: (500, "INTERNAL"), 14: (503, "UNAVAILABLE"), 16: (401, "UNAUTHENTICATED"),
}  # fmt: skip
_INVALID_KEY = {"API_KEY_INVALID", "API_KEY_EXPIRED"}
SAFETY_CATEGORIES = (
    "HARM_CATEGORY_HARASSMENT",
    "HARM_CATEGORY_HATE_SPEECH",
    "HARM_CATEGORY_SEXUALLY_EXPLICIT",
    "HARM_CATEGORY_DANGEROUS_CONTENT",
)


def http_status(code: int, status: str) -> tuple[int, str]:
    """Return the HTTP status and google.rpc's name for it.

    Args:
        code: the HTTP status, or google.rpc's own number.
        status: google.rpc's name, or "".
    """
    number, name = _RPC.get(code, (code, status))
    return number, status or name


def _details_of_type(details: Sequence[Any], name: str) -> list[Mapping[str, Any]]:
    """Return the google.rpc messages of one type among an error's details."""
    return [
        detail
        for detail in details
        if isinstance(detail, Mapping) and str(detail.get("@type", "")).endswith(f".{name}")
    ]


def retry_info_delay(details: Sequence[Any]) -> float | None:
    """Return the seconds that RetryInfo asks to wait, or None."""
    for info in _details_of_type(details, "RetryInfo"):
        if match := _DURATION.fullmatch(str(info.get("retryDelay", ""))):
            return float(match[1])
    return None


def delay_in_words(message: str) -> float | None:
    """Return the seconds that a message asks to wait, or None."""
    match = _DELAY_IN_WORDS.search(message)
    if not match or not any(match.groups()):
        return None
    hours, minutes, number, unit = match.groups()
    seconds = float(number or 0) / (1000 if unit == "ms" else 1)
    return 3600 * int(hours or 0) + 60 * int(minutes or 0) + seconds


def violations(details: Sequence[Any], message: str) -> list[list[Mapping[str, Any]]]:
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


def rejects_key(details: Sequence[Any]) -> bool:
    """Return whether an error's details say that it is the key that is invalid."""
    return any(isinstance(d, Mapping) and d.get("reason") in _INVALID_KEY for d in details)
