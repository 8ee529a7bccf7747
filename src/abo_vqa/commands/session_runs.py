"""Run a command for a limited time, and save its work every few minutes."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import psutil

from abo_vqa.core.errors import AboVqaError, RetryLaterError, UserError, first_line
from abo_vqa.core.log import get_logger
from abo_vqa.core.processes import sigterm_as_exit

logger = get_logger(__name__)

_NOTICE_S = 10.0  # in which what the command started sees that it has ended, as stages do
_GRACE_PERIOD_S = 120.0  # for a training step and a checkpoint on a slow disk


def run_limited(
    command: Sequence[str], save: Callable[[], None], hours: float | None, every: float
) -> int:
    """Run a command; save every few minutes and when it ends, in whatever way.

    It stays in this process's group: Ctrl-C, and what a notebook does to stop a cell, reach both.

    Args:
        command: its words.
        save: saves the work.
        hours: after so long it is stopped as by SIGTERM; None for never.
        every: minutes between two saves.

    Returns:
        The command's exit code.

    Raises:
        UserError: There is no such command.
        RetryLaterError: The time is over; the work is saved.
        TerminatedError: SIGTERM came; likewise.
        KeyboardInterrupt: Ctrl-C came; likewise.
    """
    began = time.monotonic()
    deadline = None if hours is None else began + 3600 * hours
    with sigterm_as_exit():
        try:
            process = subprocess.Popen(command)
        except FileNotFoundError as error:
            raise UserError(f"there is no command {command[0]!r} on the PATH.") from error
        try:
            code = _watch(process, save, deadline, 60 * every)
        except BaseException:  # SIGTERM and Ctrl-C, too: nothing runs on, and the rest is saved
            _stop(process)
            _try_to_save(save)
            raise
    if code is None:
        _stop(process)
        save()
        raise RetryLaterError(
            f"stopped after {hours:g} hours, and saved. Restore it in a new session, and run the "
            "same command again to continue."
        )
    save()
    return code if code >= 0 else 128 - code


def _watch(
    process: subprocess.Popen[bytes], save: Callable[[], None], deadline: float | None, every: float
) -> int | None:
    """Wait for the command, and save meanwhile; None if the time is over first."""
    next_save = time.monotonic() + every
    while True:
        until = next_save if deadline is None else min(next_save, deadline)
        try:
            return process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            if deadline is not None and time.monotonic() >= deadline:
                return None
        _try_to_save(save)
        next_save = time.monotonic() + every


def _try_to_save(save: Callable[[], None]) -> None:
    """Save; the work goes on if the other disk is full, or away for a while."""
    try:
        save()
    except (AboVqaError, OSError) as error:
        logger.warning(f"not saved: {first_line(error)}. The next save tries again.")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Have the command and all that it started save their work and end."""
    try:
        leader = psutil.Process(process.pid)
        family = [leader, *leader.children(recursive=True)]
    except psutil.NoSuchProcess:
        family = []
    if process.poll() is None:
        process.terminate()  # DVC dies of it, and its stages notice
    _, alive = psutil.wait_procs(family, _NOTICE_S)
    for straggler in alive:
        with suppress(psutil.NoSuchProcess):
            straggler.terminate()
    _, alive = psutil.wait_procs(alive, _GRACE_PERIOD_S)
    for straggler in alive:
        with suppress(psutil.NoSuchProcess):
            straggler.kill()
    process.wait()
