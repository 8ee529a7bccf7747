"""Messages beside a command's result: plain text on stderr, by the standard library's logging."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

ROOT = "abo_vqa"


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to whatever `sys.stderr` is at the moment: progress bars and tests replace it."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        """The current standard error."""
        return sys.stderr

    @stream.setter
    def stream(self, value: TextIO) -> None:
        raise AttributeError("the stream is always sys.stderr")


def get_logger(name: str) -> logging.Logger:
    """Return a module's logger; call it as `log = get_logger(__name__)`.

    Args:
        name: the module's name, below "abo_vqa".
    """
    root = logging.getLogger(ROOT)
    if not root.handlers:
        handler = _StderrHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        root.addHandler(handler)
        root.setLevel(logging.INFO)
        root.propagate = False  # libraries put handlers of their own on the root logger
    return logging.getLogger(name)
