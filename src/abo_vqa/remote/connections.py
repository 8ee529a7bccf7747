"""Connections that fail: what the SDKs' errors keep to themselves, the cause and the address."""

from __future__ import annotations

import socket
from collections.abc import Iterator

from abo_vqa.remote.errors import ServiceError, UnreachableError

# Nobody listens at the port, or no computer has the name: no request has been sent.
_UNREACHABLE = (ConnectionRefusedError, socket.gaierror)


def connection_error(error: Exception, address: str | None = None) -> ServiceError:
    """Return the typed error for a connection that failed.

    Args:
        error: the SDK's.
        address: where the request was to be sent, if the error doesn't name it.
    """
    text = f"{type(error).__name__}: {error}".rstrip(".: ")
    causes = list(_causes(error))
    if causes and (reason := str(causes[0])) and reason not in text:
        text = f"{text} ({reason})"
    if address:
        text = f"{text}, at {address.rstrip('/')}"
    unreachable = any(isinstance(cause, _UNREACHABLE) for cause in [error, *causes])
    return (UnreachableError if unreachable else ServiceError)(text)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the errors that led to one, the nearest first."""
    cause = error.__cause__ or error.__context__
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
