"""Errors of remote models."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from abo_vqa.core.errors import AboVqaError

_ErrorT = TypeVar("_ErrorT", bound="ServiceError")


class ServiceError(AboVqaError):
    """The request failed for now (5xx, timeout, dropped connection): try again.

    Attributes:
        delay: seconds that the server asked to wait, or None.
        billed: whether the vendor may have charged for the request nevertheless.
    """

    billed = True

    def __init__(self, message: str, delay: float | None = None) -> None:
        super().__init__(message)
        self.delay = delay

    def redacted(self: _ErrorT, redact: Callable[[str], str]) -> _ErrorT:
        """Return the error, without keys in its message: what it means was read from the original.

        Args:
            redact: removes them.
        """
        self.args = (redact(str(self)),)
        return self


class UnreachableError(ServiceError):
    """No connection: nobody listens at the address, or the name in it is unknown."""

    billed = False


class ThrottledError(ServiceError):
    """HTTP 429 for a quota per minute: this key pauses.

    Attributes:
        day: whether a quota per day is named as well, which may be the one that is spent.
    """

    billed = False

    def __init__(self, message: str, delay: float | None = None, day: bool = False) -> None:
        super().__init__(message, delay)
        self.day = day


class DailyQuotaError(ServiceError):
    """HTTP 429 for a quota per day: this key is unusable until the vendor's midnight."""

    billed = False


class RequestRefusedError(ServiceError):
    """The vendor rejects this image's request (400): sending it again is useless."""

    billed = False


class RefusedThinkingError(RequestRefusedError):
    """The model doesn't take the value of `thinking`, whatever is asked."""


class UnknownParameterError(ServiceError):
    """The server doesn't take a parameter of the request; later ones leave it out.

    The request is sent again, and no image is to blame.
    """

    billed = False


class NoBatchJobsError(ServiceError):
    """The server has no batch jobs at all (HTTP 404, 405 or 501 where they would be created)."""

    billed = False


class BatchQueueFullError(ServiceError):
    """No room for a batch job until others have ended."""

    billed = False


class ResultsGoneError(ServiceError):
    """The vendor has deleted the results of a batch job, as it does some weeks after its end."""


class InvalidKeyError(ServiceError):
    """HTTP 401, 403, or 400 with API_KEY_INVALID: this key can't be used."""

    billed = False


class AccountError(InvalidKeyError):
    """The key's account is refused (billing, region, suspension), whatever is requested."""


class NoQuotaError(InvalidKeyError):
    """HTTP 429 with a quota of 0: the model isn't in the key's plan, today or any day."""


class UnknownModelError(ServiceError):
    """HTTP 404: the model doesn't exist or is retired, or the address is no such service's."""

    billed = False
