"""What can stop a command. Every error has the exit code that the command ends with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class AboVqaError(Exception):
    """The root of this project's errors.

    Attributes:
        exit_code: what the process ends with if nobody handles the error.
    """

    exit_code = 1

    def __reduce__(self) -> tuple[Callable[..., AboVqaError], tuple[Any, ...]]:
        # Python would call __init__ with the message, whatever that takes.
        return _restore, (type(self), self.args, self.__dict__)


def _restore(kind: type[AboVqaError], args: tuple[Any, ...], state: dict[str, Any]) -> AboVqaError:
    """Make an error that another process has pickled."""
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class UserError(AboVqaError):
    """Something the user can fix; the message says what was found, what is allowed, what to do."""

    exit_code = 2


class RetryLaterError(AboVqaError):
    """Everything is saved for later, e.g. when a daily quota is spent (EX_TEMPFAIL)."""

    exit_code = 75


class TerminatedError(AboVqaError):
    """A signal arrived and everything is saved; the same command resumes.

    It ends with 143 = 128 + 15 after SIGTERM, and with 130 after Ctrl-C.
    """

    exit_code = 143


def first_line(error: BaseException, longest: int = 300) -> str:
    """Return the first line of an error's message without its full stop.

    What follows it is for the developers of the library that raised it.

    Args:
        error: the error.
        longest: maximum number of characters.

    Returns:
        The line, or the error's class where it has no message.
    """
    return str(error).strip().partition("\n")[0].rstrip(". ")[:longest] or type(error).__name__
