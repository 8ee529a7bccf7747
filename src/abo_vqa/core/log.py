"""Messages beside a command's result: plain text on stderr, by the standard library's logging."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress

_ROOT = "abo_vqa"


class _StderrHandler(logging.Handler):
    """Writes to whatever `sys.stderr` is at the moment: progress bars and tests replace it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line. Where nobody can read it, it is lost: it must not end the work.

        Args:
            record: the message.
        """
        text = self.format(record)
        with suppress(OSError, ValueError, AttributeError):  # broken, closed, None
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()


class _Logger(logging.Logger):
    """A logger that stays on when a library configures logging for its own purposes.

    `logging.config.fileConfig`, which alembic's migrations and others call, disables the loggers
    that exist by then.
    """

    @property
    def disabled(self) -> bool:
        """Always False."""
        return False

    @disabled.setter
    def disabled(self, value: bool) -> None:
        """Ignore it."""


def _registered(name: str) -> logging.Logger:
    """The logger of a name, as a `_Logger` if this is the first to ask for it."""
    manager = logging.Logger.manager
    before = manager.loggerClass
    manager.loggerClass = _Logger
    try:
        return manager.getLogger(name)
    finally:
        manager.loggerClass = before


def get_logger(name: str) -> logging.Logger:
    """Return a module's logger; call it as `log = get_logger(__name__)`.

    Args:
        name: the module's name, below "abo_vqa".
    """
    root = _registered(_ROOT)
    if not root.handlers:
        handler = _StderrHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        root.addHandler(handler)
        root.setLevel(logging.INFO)
        root.propagate = False  # libraries put handlers of their own on the root logger
    return _registered(name)
