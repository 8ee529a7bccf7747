"""Log messages: plain text on stderr, through the standard library's logging.

The loggers stand apart from the process's own: whatever a library does to logging (migrations of a
database disable the loggers that exist, others add handlers to the root), it neither silences nor
repeats a message.
"""

from __future__ import annotations

import logging
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache


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


@cache
def _manager() -> logging.Manager:
    """Return the manager of this project's loggers, with a root of its own."""
    root = logging.RootLogger(logging.INFO)
    handler = _StderrHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    root.addHandler(handler)
    return logging.Manager(root)


def get_logger(name: str) -> logging.Logger:
    """Return a module's logger, which the module keeps as `logger`.

    Args:
        name: the module's name.
    """
    return _manager().getLogger(name)


class _Collector(logging.Handler):
    """Keeps messages instead of writing them."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: deque[tuple[int, str]] = deque()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message's level and text.

        Args:
            record: the message.
        """
        self.messages.append((record.levelno, self.format(record)))


@contextmanager
def capture_messages() -> Iterator[deque[tuple[int, str]]]:
    """Collect this process's messages instead of writing them: somebody else is to pass them on.

    Yields:
        Level and text of each, the oldest first; it grows while the block runs.
    """
    root, collector = _manager().root, _Collector()
    handlers, root.handlers = root.handlers, [collector]
    try:
        yield collector.messages
    finally:
        root.handlers = handlers
