"""The errors of the Gemini REST protocol, as Google words them."""

from __future__ import annotations

from typing import Any

RPC = "type.googleapis.com/google.rpc."


def error(code: int, status: str, message: str, *details: dict[str, Any]) -> dict[str, Any]:
    return {"error": {"code": code, "status": status, "message": message, "details": list(details)}}


def quota_error(which: str, delay: float | None, *, details: bool) -> dict[str, Any]:
    """A 429 as Google words it; without details there is only the message."""
    message = "You exceeded your current quota, please check your plan and billing details."
    if not details:
        per = "PerDay" if which == "day" else "PerMinute"
        return error(429, "RESOURCE_EXHAUSTED", f"{message} (GenerateRequests{per}PerProject)")
    name = {"day": "Day", "minute": "Minute"}[which]
    violation = {
        "quotaMetric": "generativelanguage.googleapis.com/generate_content_requests",
        "quotaId": f"GenerateRequestsPer{name}PerProjectPerModel",
        "quotaValue": "1000",
    }
    found: list[dict[str, Any]] = [{"@type": RPC + "QuotaFailure", "violations": [violation]}]
    if delay is not None:
        found.append({"@type": RPC + "RetryInfo", "retryDelay": f"{delay:g}s"})
    return error(429, "RESOURCE_EXHAUSTED", message, *found)


def several_quotas(delay: float, *, named: bool = True) -> dict[str, Any]:
    """A 429 that lists the quotas of a day and of a minute; the text may name the one exceeded."""
    metric = "generativelanguage.googleapis.com/generate_content_free_tier_requests"
    quotas = [
        {"quotaMetric": metric, "quotaId": f"GenerateRequestsPer{name}-FreeTier", "quotaValue": n}
        for name, n in (("Day", "250"), ("Minute", "10"))
    ]
    message = (
        "You exceeded your current quota, please check your plan and billing details.\n"
        + f"* Quota exceeded for metric: {metric}, limit: 10, model: gemini-3.5-flash-lite\n"
        * named
        + f"Please retry in {delay:g}s."
    )
    retry = {"@type": RPC + "RetryInfo", "retryDelay": f"{delay:g}s"}
    failure = {"@type": RPC + "QuotaFailure", "violations": quotas}
    return error(429, "RESOURCE_EXHAUSTED", message, failure, retry)


def no_quota() -> dict[str, Any]:
    """A 429 for a model that isn't in the key's plan. The violations tell no value."""
    metric = "generativelanguage.googleapis.com/generate_content_free_tier_requests"
    quotas = [
        {"quotaMetric": metric, "quotaId": f"GenerateRequestsPer{name}-FreeTier"}
        for name in ("Day", "Minute")
    ]
    message = (
        "You exceeded your current quota, please check your plan and billing details.\n"
        f"* Quota exceeded for metric: {metric}, limit: 0, model: gemini-3.5-flash-lite\n"
        "Please retry in 29.1s."
    )
    retry = {"@type": RPC + "RetryInfo", "retryDelay": "29s"}
    failure = {"@type": RPC + "QuotaFailure", "violations": quotas}
    return error(429, "RESOURCE_EXHAUSTED", message, failure, retry)


def error_response(fault: str, delay: float) -> tuple[int, Any] | None:
    """Faults that are one HTTP answer, whatever was asked."""
    return {
        "minute": (429, quota_error("minute", delay, details=True)),
        "minute_bare": (429, quota_error("minute", None, details=False)),
        "day": (429, quota_error("day", 29.0, details=True)),
        "day_bare": (429, quota_error("day", None, details=False)),
        "500": (500, error(500, "INTERNAL", "An internal error has occurred.")),
        "503": (503, error(503, "UNAVAILABLE", "The model is overloaded.")),
        "400": (400, error(400, "INVALID_ARGUMENT", "Unable to process input image.")),
        "400_tiny": (400, error(400, "INVALID_ARGUMENT", "The image is too small.")),
        "422": (422, error(422, "UNPROCESSABLE", "This request can't be processed.")),
        "region": (400, error(400, "FAILED_PRECONDITION",
                              "User location is not supported for the API use.")),
        "billing": (400, error(400, "FAILED_PRECONDITION",
                               "Gemini API free tier is not available in your country. Please "
                               "enable billing on your project in Google AI Studio.")),
        "402": (402, error(402, "", "Payment required.")),
        "denied": (403, error(403, "PERMISSION_DENIED",
                              "Your project has been denied access. Please contact support.")),
        "prepaid": (429, error(429, "RESOURCE_EXHAUSTED",
                               "Your prepayment credits are depleted. Please go to AI Studio.")),
        "no_quota": (429, no_quota()),
        "either": (429, several_quotas(delay, named=False)),
        "several": (429, several_quotas(delay)),
        "tomorrow": (429, quota_error("minute", 40_000.0, details=True)),
        "not_json": (200, b"<html>proxy error</html>"),
    }.get(fault)  # fmt: skip
