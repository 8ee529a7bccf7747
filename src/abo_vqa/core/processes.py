"""Several processes for one stage, on one machine or many; and when a process should stop.

`accelerate launch`, `torchrun` and `--processes N` (over torchrun) tell each process its number
and how many there are. They share nothing but a folder of journals, so none waits for another,
and a process that dies is started again and continues from the journals.

A stage whose caller was killed (DVC by the out-of-memory killer, a batch system or a closed
session) would run on for nobody, in the way of the next one: it stops, with its work saved.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from abo_vqa.core.errors import RetryLaterError, TerminatedError, UserError
from abo_vqa.core.log import get_logger

if TYPE_CHECKING:
    import psutil

logger = get_logger(__name__)

_RESTARTS = 3  # of all processes, after one of them died
FAILURE_FILE_ENV = "ABO_VQA_FAILURE_FILE"  # the path that `failure_marker` returns
# Seconds to wait for torchrun after SIGTERM: it gives the processes 30 to save their work.
_GRACE_PERIOD_S = 35.0
_POLL_S = 1.0  # between two looks at the processes that wait for this one
_AFTER_THIS_STEP = b"\nsaving after this step; a second Ctrl-C stops at once\n"
SCRIPT = Path(__file__).parents[1] / "__main__.py"  # what torchrun runs


def rank_and_world_size() -> tuple[int, int]:
    """Return this process's rank and the number of processes: (0, 1) outside a launcher."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def cores() -> int:
    """Count the cores that this process may run on; a container's CPU quota isn't considered."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def process_count(text: str) -> int:
    """Parse a number of processes, for argparse's `type`.

    Args:
        text: what stands on the command line.

    Raises:
        argparse.ArgumentTypeError: It isn't a positive whole number.
    """
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError(f"found {text!r}; a whole number, at least 1")


def launch(processes: int, arguments: Sequence[str]) -> int:
    """Run an abo-vqa command in several processes, each on its own GPU if there are any.

    Args:
        processes: how many.
        arguments: the command's words.

    Returns:
        The exit code, 0.

    Raises:
        UserError: One of them met a problem that only the user can solve.
        RetryLaterError: Processes died again and again; their answers are kept.
        TerminatedError: SIGTERM came, or the caller was killed; the processes have stopped too.
        KeyboardInterrupt: Ctrl-C came; likewise.
    """
    torchrun = [sys.executable, str(Path(__file__).parent / "torchrun.py"), "--standalone"]
    torchrun += [f"--nproc-per-node={processes}", f"--max-restarts={_RESTARTS}"]
    # torchrun would choose one thread a process, and warn about it; the stage sets its own.
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    command = [*torchrun, str(SCRIPT), *arguments]
    with tempfile.TemporaryDirectory(prefix="abo-vqa-") as folder:
        marker = Path(folder) / "failed"
        code = _run_to_end(command, {**environment, FAILURE_FILE_ENV: str(marker)})
        if marker.exists():
            stop = UserError(
                f"one of {processes} processes stopped, for the reason above. The answers so far "
                "are kept: fix it and run the same command to continue."
            )
            stop.exit_code = int(marker.read_text(encoding="utf-8") or stop.exit_code)
            raise stop
    if code:
        raise RetryLaterError(
            f"one of {processes} processes failed more than {_RESTARTS} times (see above). "
            "The answers so far are kept: run the same command to continue."
        )
    return 0


def _run_to_end(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run torchrun, stop it on SIGTERM and Ctrl-C, and return its exit code.

    It has a session of its own: a terminal's Ctrl-C reaches this process only, which says so once.
    What kills this process at once (kill -9, a closed terminal) is noticed by `stop_with_parent`.
    """
    with (
        sigterm_as_exit(),
        stop_with_parent(),
        subprocess.Popen(command, env=environment, start_new_session=True) as launcher,
    ):
        try:
            return launcher.wait()
        except (SystemExit, KeyboardInterrupt):  # the first by SIGTERM, see `sigterm_as_exit`
            launcher.terminate()  # torchrun passes it on
            try:
                launcher.wait(_GRACE_PERIOD_S)
            except (subprocess.TimeoutExpired, SystemExit, KeyboardInterrupt):
                launcher.kill()
            raise


def failure_marker() -> Path | None:
    """Return the file that marks the failure of one of `launch`'s processes, None elsewhere.

    It exists once one has met a problem that only the user can solve.
    """
    marker = os.environ.get(FAILURE_FILE_ENV)
    return Path(marker) if marker and "RANK" in os.environ else None


def failed_elsewhere() -> bool:
    """Tell whether one of `launch`'s processes has met a problem that only the user can solve."""
    marker = failure_marker()
    return marker is not None and marker.exists()


def mark_failed(marker: Path, code: int) -> bool | None:
    """Tell the other processes that there is no point in continuing.

    A process that has done so ends with 0: for any other code torchrun would start all of them
    again, and again, and print tracebacks.

    Args:
        marker: the file that says so; see `failure_marker`.
        code: what `launch` is to end with; it reads it once all processes have ended.

    Returns:
        Whether this process is the first to say so; None if the file can't be written.
    """
    try:
        with marker.open("x", encoding="utf-8") as file:
            file.write(str(code))
    except FileExistsError:
        return False
    except OSError:  # a full disk, or the launcher has gone
        return None
    return True


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

    def stop(_number: int, _frame: object) -> None:
        raise SystemExit(143)  # not an Exception, which a row's own failure handling would catch

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except SystemExit as end:
        if end.code != 143:
            raise
        raise TerminatedError("stopped by SIGTERM; run it again to continue.") from None
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def deferred_signals() -> Iterator[Callable[[], int]]:
    """Remember SIGTERM and Ctrl-C instead of dying of them; a second Ctrl-C ends the work at once.

    Yields:
        A function that returns the number of the signal that came, or 0.
    """
    received = 0

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
    """List the ancestors that wait for this process: a launcher of several, DVC, shells in between.

    It is empty for a command that a person started, which may well outlive their shell.
    """
    import psutil

    parents = psutil.Process().parents()
    named = [is_dvc(parent) for parent in parents]
    count = named.index(True) + 1 if True in named else 0
    if "RANK" in os.environ or FAILURE_FILE_ENV in os.environ:  # one of several, or their torchrun
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
