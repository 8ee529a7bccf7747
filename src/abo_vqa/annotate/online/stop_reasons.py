"""Why a run stops, and what the user can do about it. Everything answered so far is saved."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from abo_vqa.core.errors import RetryLaterError, UserError
from abo_vqa.remote.errors import AccountError, InvalidKeyError, NoQuotaError, ServiceError
from abo_vqa.remote.keys import key_variables

if TYPE_CHECKING:
    from abo_vqa.core.service_config import ServiceConfig


def unknown_model(settings: ServiceConfig, error: ServiceError) -> UserError:
    """Return the error for a model that the service doesn't have."""
    current = "one that its server lists (GET /v1/models)"
    if settings.protocol != "openai":
        current = "a current one, e.g. gemini-3.5-flash-lite"
    return UserError(
        f"generate.model: {settings.model!r} doesn't exist or is retired. Set it in "
        f"params.yaml to {current}. ({error})"
    )


def no_answer(patience_s: float, error: ServiceError, images: int) -> RetryLaterError:
    """Return the error for an outage.

    Args:
        patience_s: seconds without an answer.
        error: the last one.
        images: how many are open.
    """
    return RetryLaterError(
        f"no answer for {patience_s:g} s; last error: {error}. {images:,} images are open and "
        "everything is saved: run it again later."
    )


def no_usable_key(error: InvalidKeyError, settings: ServiceConfig, images: int) -> UserError:
    """Return the error for a run whose last key was rejected.

    Args:
        error: why it was rejected.
        settings: the model and the protocol.
        images: how many are open.
    """
    if isinstance(error, NoQuotaError):
        advice = (
            f"The key has no free quota for generate.model {settings.model!r}: it is 0, today and "
            "any day. Choose a model of the key's plan, or change the plan."
        )
    elif isinstance(error, AccountError):
        advice = (
            "It is the account that is refused, not an image: check its billing, region and state "
            "in the vendor's console."
        )
    else:
        one, several = key_variables(settings.protocol)
        advice = f"Check {one} or {several} in the environment."
    return UserError(
        f"no usable API key; the last one was rejected with: {error}. {advice} {images:,} images "
        "are open and everything is saved: run it again to continue."
    )


def daily_quota_spent(until: float, keys: int, message: str, images: int) -> RetryLaterError:
    """Return the error for spent daily quotas.

    Args:
        until: when the first key has quota again, in Unix seconds.
        keys: how many keys there are.
        message: the vendor's, or "".
        images: how many are open.
    """
    back = datetime.fromtimestamp(until).astimezone()
    quotas = "the key's daily quota is" if keys == 1 else "all keys' daily quotas are"
    return RetryLaterError(
        f"{quotas} spent; {images:,} images are open and everything is saved. "
        f"Run it again after {back:%Y-%m-%d %H:%M %Z}."
        + (f" The service says: {message}" if message else "")
    )


def budget_exhausted(limit: float, committed: float, images: int) -> UserError:
    """Return the error for a budget that the next request might exceed.

    Args:
        limit: `generate.budget_usd`.
        committed: USD spent or reserved.
        images: how many are open.
    """
    return UserError(
        f"generate.budget_usd: the next request might exceed {limit:g} USD; about "
        f"{committed:.4f} are spent and {images:,} images are open. Everything is saved: raise "
        "the budget and run again."
    )


def all_refused(refused: int, message: str, images: int) -> UserError:
    """Return the error for refusals in a row.

    Args:
        refused: how many.
        message: the vendor's last one.
        images: how many are open.
    """
    return UserError(
        f"the last {refused} requests were all refused: {message}. No image was dropped because "
        "of this. Check the settings under generate in params.yaml and the account; "
        f"{images:,} images are open and everything is saved: run it again to continue. If the "
        "images themselves are the cause: abo-vqa generate --drop-failing."
    )


def undecided_refusals(refused: int, error: ServiceError) -> RetryLaterError:
    """Return the error for refusals that can't be judged because the service fails now."""
    return RetryLaterError(
        f"{refused:,} images were refused, and it can't be determined now whether the images are "
        f"the cause: {error}. Everything is saved: run it again later."
    )
