"""What the errors of chat-completions servers mean: OpenAI's, and those of its many compatibles."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from abo_vqa.remote.errors import (
    AccountError,
    DailyQuotaError,
    NoQuotaError,
    RefusedThinkingError,
    RequestRefusedError,
    ServiceError,
    ThrottledError,
)
from abo_vqa.remote.http_errors import to_service_error
from abo_vqa.remote.thinking_errors import refuses_thinking

# "Please try again in 6m0s.", "… in 350ms.": Go's notation, as in the x-ratelimit-reset headers.
_AGAIN = re.compile(r"try again in ((?:[\d.]+(?:ms|h|m|s))+)", re.IGNORECASE)
_DURATION = re.compile(r"([\d.]+)(ms|h|m|s)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_SPENT = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
_FLAGGED = re.compile(r"flagged|moderation|content[_ ](policy|filter)", re.IGNORECASE)
# "… on tokens per min (TPM): Limit 300, Used 0, Requested 1324."
_QUOTA_NUMBERS = re.compile(
    r"\bLimit:? (?P<limit>\d+)\b(?:, Used:? \d+)?, Requested:? (?P<requested>\d+)\b"
)
_TOO_LARGE = (
    "One request takes more tokens than this quota has in all, so waiting doesn't help: lower "
    "image_size or max_output_tokens, shorten the prompt, or have the quota raised"
)
_RESETS = ("x-ratelimit-reset-requests", "x-ratelimit-reset-tokens")


def error_from_body(
    code: int, body: Any, headers: Mapping[str, str] | None = None, default: str = ""
) -> ServiceError:
    """Return the typed error for an HTTP error of a chat-completions server.

    Args:
        code: the HTTP status.
        body: the response's JSON, or what of it is under "error". Google's compatible endpoint
            sends a list of one such object, with google.rpc's details.
        headers: the response's headers.
        default: the message where the body has none.
    """
    fields = _error_fields(body)
    message = error_message(body) or default
    kinds = {str(fields.get(name) or "") for name in ("code", "type")}
    status = next((kind for kind in sorted(kinds) if kind and not kind.isdecimal()), "")
    text = " ".join(f"HTTP {code} {status}: {message}".split()).rstrip(".:")
    if kinds & _SPENT:
        return AccountError(text)
    if code in (400, 403) and (_FLAGGED.search(message) or _FLAGGED.search(" ".join(kinds))):
        return RequestRefusedError(text)
    if code in (413, 429) and (numbers := _QUOTA_NUMBERS.search(message)):
        if int(numbers["limit"]) == 0:
            return NoQuotaError(text)
        if int(numbers["requested"]) > int(numbers["limit"]):
            return RequestRefusedError(f"{text}. {_TOO_LARGE}")
    details = fields.get("details")
    details = details if isinstance(details, Sequence) and not isinstance(details, str) else ()
    error = to_service_error(code, str(fields.get("status") or status), message, details, headers)
    delay = error.delay if error.delay is not None else _delay(message, headers or {})
    if isinstance(error, RequestRefusedError) and refuses_thinking(message, error_parameter(body)):
        return RefusedThinkingError(text)
    if isinstance(error, DailyQuotaError) and delay is not None and not details:
        return ThrottledError(text, delay)  # a rolling day: the server says when it has room
    error.delay = delay
    return error


def error_message(body: Any) -> str:
    """Return the server's own words in the body of an error, or ""."""
    return str(_error_fields(body).get("message") or "")


def error_parameter(body: Any) -> str:
    """Return the name of the parameter that the body of an error gives as the cause, or ""."""
    return str(_error_fields(body).get("param") or "")


def _error_fields(body: Any) -> Mapping[str, Any]:
    """Return the error object in a body, whatever it is wrapped in."""
    if isinstance(body, Sequence) and not isinstance(body, str) and body:
        body = body[0]
    if not isinstance(body, Mapping):
        return {"message": str(body or "")}
    inner = body.get("error", body)
    return inner if isinstance(inner, Mapping) else {"message": str(inner)}


def _delay(message: str, headers: Mapping[str, str]) -> float | None:
    """Return the seconds that the message or a header asks to wait, or None."""
    milliseconds = headers.get("retry-after-ms", "")
    if milliseconds.isdecimal():
        return int(milliseconds) / 1000
    if match := _AGAIN.search(message):
        return _seconds(match[1])
    # A request is refused until the exhausted one of the two quotas has room again.
    spent = [
        _seconds(headers[name])
        for name in _RESETS
        if headers.get(name) and headers.get(name.replace("reset", "remaining")) == "0"
    ]
    return max(spent, default=None)


def _seconds(duration: str) -> float:
    """Return the seconds of a duration such as "6m0s", "350ms" or "1.5s"."""
    return sum(float(number) * _SECONDS[unit] for number, unit in _DURATION.findall(duration))
