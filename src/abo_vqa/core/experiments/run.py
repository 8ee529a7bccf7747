"""Running and queueing experiments with DVC's own command line.

A run works in a temporary copy of the workspace (`dvc exp run --temp`), so that the checkout stays
as it is. DVC is a process of its own: stages stop when it ends (`stop_with_parent`).
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

from abo_vqa.core.errors import UserError
from abo_vqa.core.files import atomic_write
from abo_vqa.core.log import get_logger
from abo_vqa.core.tracking.origin import SOURCES, git

logger = get_logger(__name__)

_DVC = (sys.executable, "-m", "dvc")
_GRACE_PERIOD_S = 30.0  # for DVC to end after SIGTERM


def uncommitted_sources() -> list[str]:
    """List what differs from the commit and isn't a setting: code, profiles, pinned data.

    An experiment is found again by its commit and its settings. New files aren't even part of it:
    DVC copies to a temporary workspace only what Git knows.
    """
    lines = git("status", "--porcelain", "--", *SOURCES, "*.dvc") or ""
    return [line[2:].strip() for line in lines.splitlines()]


def run_experiment(name: str, settings: Sequence[str], running: Path) -> bool:
    """Run an experiment in a temporary workspace; its output goes to this process's.

    Args:
        name: the experiment's.
        settings: what changes, as `name=value`.
        running: a file that says, while DVC works, which process it is.

    Returns:
        Whether it succeeded.
    """
    command = [*_DVC, "exp", "run", "--temp", "--name", name, *_set_params(settings)]
    with subprocess.Popen(command) as process:
        try:
            _note_process(process.pid, running)
            return process.wait() == 0
        except BaseException:  # SIGTERM or Ctrl-C: the stage saves its work and ends
            process.terminate()
            try:
                process.wait(_GRACE_PERIOD_S)
            except subprocess.TimeoutExpired:
                process.kill()
            raise
        finally:
            if process.poll() is not None:
                running.unlink(missing_ok=True)


def queue_experiment(name: str, settings: Sequence[str]) -> None:
    """Put an experiment into DVC's queue.

    Args:
        name: the experiment's.
        settings: what changes, as `name=value`.

    Raises:
        UserError: DVC refuses it.
    """
    command = [*_DVC, "exp", "run", "--queue", "--name", name, *_set_params(settings)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        raise UserError(f"DVC didn't queue {name}:\n{process.stderr.strip()}")


def _set_params(settings: Sequence[str]) -> list[str]:
    return [word for setting in settings for word in ("--set-param", setting)]


def _note_process(pid: int, running: Path) -> None:
    """Write down which process works, with its start: numbers come again."""
    began = psutil.Process(pid).create_time()
    with atomic_write(running) as temporary:
        temporary.write_text(f"{pid}:{began:.0f}", encoding="utf-8")


def wait_for_orphan(running: Path) -> None:
    """Wait for the DVC process of a command that was killed: it works on, and its result counts.

    Args:
        running: the file that names it; it may be missing.
    """
    try:
        pid, _, began = running.read_text(encoding="utf-8").partition(":")
        process = psutil.Process(int(pid))
        if f"{process.create_time():.0f}" == began:
            logger.warning(
                f"DVC (process {pid}) still works for a command that was killed: waiting until it "
                f"ends. `kill {pid}` stops it; this command then goes on from there."
            )
            process.wait()
    except (OSError, ValueError, psutil.Error):
        pass
    running.unlink(missing_ok=True)
