"""Ctrl-C and SIGTERM while requests are on their way: what is paid for is waited for."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from abo_vqa.core.errors import TerminatedError


@contextmanager
def stop_on_signals(request_stop: Callable[[Callable[[], BaseException]], None]) -> Iterator[None]:
    """Turn the first Ctrl-C or SIGTERM into a stop that waits for the replies on their way.

    Args:
        request_stop: takes a function that returns the error to end with.
    """
    interrupted = False

    def interrupt(*_: object) -> None:
        nonlocal interrupted
        if interrupted:
            raise KeyboardInterrupt
        interrupted = True
        request_stop(KeyboardInterrupt)

    def terminate(*_: object) -> None:
        request_stop(lambda: TerminatedError("everything is saved; run it again to continue"))

    try:
        previous = {
            signal.SIGINT: signal.signal(signal.SIGINT, interrupt),
            signal.SIGTERM: signal.signal(signal.SIGTERM, terminate),
        }
    except ValueError:  # not the main thread: the caller handles signals
        yield
        return
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
