"""Several processes for one training, and when a process should stop.

`accelerate launch` and `torchrun` tell each process its number and how many there are; for other
stages see `engine`.

A stage whose caller was killed (DVC by the out-of-memory killer, a batch system or a closed
session) would run on for nobody, in the way of the next one: it stops, with its work saved.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from abo_vqa.core.errors import TerminatedError
from abo_vqa.core.log import get_logger

if TYPE_CHECKING:
    import psutil

logger = get_logger(__name__)

_POLL_S = 1.0  # between two looks at the processes that wait for this one
_AFTER_THIS_STEP = b"\nsaving after this step; a second Ctrl-C stops at once\n"


def rank_and_world_size() -> tuple[int, int]:
    """Return this process's rank and the number of processes: (0, 1) outside a launcher."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def cores() -> int:
    """Count the cores that this process may run on; a container's CPU quota isn't considered."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def stop_with_parent() -> Iterator[None]:
    """Send this process SIGTERM if an ancestor that waits for it exits while the block runs."""
    stop_event = threading.Event()
    watched = _waiting_ancestors()
    if watched:
        threading.Thread(target=_stop_with, args=(watched, stop_event), daemon=True).start()
    try:
        yield
    finally:
        stop_event.set()


@contextmanager
def sigterm_as_exit() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does: what is open is closed, and recorded as killed.

    Raises:
        TerminatedError: SIGTERM came.
    """
    came = threading.Event()

    def stop(_number: int, _frame: object) -> None:
        came.set()
        raise SystemExit(143)  # not an Exception, which a row's own failure handling would catch

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except SystemExit:
        if not came.is_set():  # not by the code: Ray raises another SystemExit for it
            raise
        raise TerminatedError("stopped by SIGTERM; run it again to continue.") from None
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def deferred_signals() -> Iterator[Callable[[], int]]:
    """Remember SIGTERM and Ctrl-C instead of dying of them; a second Ctrl-C ends the work at once.

    Yields:
        A function that returns the number of the signal that came, or 0; always 0 where the work
        runs in another thread than the main one, as in Ray Train's workers.
    """
    received = 0
    if threading.current_thread() is not threading.main_thread():
        yield lambda: 0
        return

    def note(number: int, _frame: object) -> None:
        nonlocal received
        received = number
        if number == signal.SIGINT:
            signal.signal(number, signal.default_int_handler)
            if rank_and_world_size()[0] > 0:
                return
            with suppress(OSError):  # not print: the signal may have come in the midst of one
                os.write(2, _AFTER_THIS_STEP)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    # A shell's job in the background ignores Ctrl-C: it is meant for another command.
    handled = [number for number, handler in before.items() if handler != signal.SIG_IGN]
    for number in handled:
        signal.signal(number, note)
    try:
        yield lambda: received
    finally:
        for number in handled:
            signal.signal(number, before[number])


def terminated_by(number: int, where: str) -> TerminatedError:
    """Return the error that ends work stopped by a signal, all of it saved.

    Args:
        number: the signal's; 0 where it came to another process.
        where: how far the work got, e.g. "at step 7".
    """
    what = "interrupted" if number == signal.SIGINT else "stopped by SIGTERM"
    stop = TerminatedError(f"{what} {where}; run it again to continue.")
    stop.exit_code = 128 + (number or signal.SIGTERM)
    return stop


def _waiting_ancestors() -> list[psutil.Process]:
    """List the ancestors that wait for this process: torchrun, DVC, shells in between.

    It is empty for a command that a person started, which may well outlive their shell.
    """
    import psutil

    parents = psutil.Process().parents()
    named = [is_dvc(parent) for parent in parents]
    count = named.index(True) + 1 if True in named else 0
    if "RANK" in os.environ:  # one of several
        count = max(count, 1)
    return parents[:count]


def is_dvc(process: psutil.Process) -> bool:
    """Tell whether a process's command line is DVC's: a script, or `python -m dvc`.

    Args:
        process: the process.
    """
    import psutil

    try:
        return any(map(names_dvc, process.cmdline()[:3]))
    except psutil.Error:  # it has ended, or belongs to somebody else
        return False


def names_dvc(word: str) -> bool:
    """Tell whether a word of a command line is DVC itself.

    Args:
        word: the word.
    """
    return Path(word).name in ("dvc", "dvc.exe")


def _stop_with(watched: Sequence[psutil.Process], stop_event: threading.Event) -> None:
    """Send this process SIGTERM as soon as one of the others has ended.

    Args:
        watched: the others.
        stop_event: set when nobody needs this any more.
    """
    while not stop_event.wait(_POLL_S):
        for process in watched:
            if not _alive(process):
                logger.warning(
                    f"the process that started this one ({process.pid}) has ended: stopping too"
                )
                os.kill(os.getpid(), signal.SIGTERM)
                return


def _alive(process: psutil.Process) -> bool:
    """Whether a process runs; one that has ended and waits to be collected doesn't."""
    import psutil

    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
