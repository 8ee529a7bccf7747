"""Processes that start with the libraries loaded, since forked from one that has loaded them once.

Torch, transformers and PEFT take about ten processor seconds to import, which a test about a
process that is killed, waits or shares work needn't spend each time.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest

from abo_vqa import cli
from abo_vqa.reporting import style

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["abo_vqa.stages.finetune", "transformers.models.blip.modeling_blip", "abo_vqa.cli"]
)


class Fork:
    """A process that calls a function in the current folder.

    Args:
        function: one that a module has at its top level, so that it can be pickled by its name.
        arguments: what it is called with.
        environment: the process's variables; by default this process's.
    """

    def __init__(
        self,
        function: Callable[..., None],
        *arguments: Any,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        _start_server()
        descriptor, name = tempfile.mkstemp(prefix="stderr-")
        os.close(descriptor)
        self._stderr = Path(name)
        variables = dict(os.environ if environment is None else environment)
        self._process = _CONTEXT.Process(
            target=_call, args=(self._stderr, variables, function, *arguments)
        )
        self._process.start()

    @property
    def returncode(self) -> int | None:
        """As of `subprocess.Popen`: negative for a signal; None while the process runs."""
        return self._process.exitcode

    def wait(self, timeout: float = 300) -> str:
        """Wait for the end, and return what was written to stderr."""
        self._process.join(timeout)
        written = self._stderr.read_text(encoding="utf-8")
        if self._process.exitcode is None:
            self._process.kill()
            raise TimeoutError(written)
        self._stderr.unlink()
        return written


def _start_server() -> None:
    """Start what forks, if it isn't running, with a hash seed of its own for all its children."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONHASHSEED", "7")
        forkserver.ensure_running()


def _call(
    stderr: Path, variables: dict[str, str], function: Callable[..., None], *arguments: Any
) -> None:
    """In the new process: stderr to a file, the environment, then the function."""
    with stderr.open("wb") as file:
        os.dup2(file.fileno(), sys.stderr.fileno())
    os.environ.clear()
    os.environ.update(variables)
    function(*arguments)


def command(*words: str, killed_at: int = 0) -> None:
    """For a process of its own: `abo-vqa` with small figures.

    Args:
        words: the command line.
        killed_at: how many times a file is forced to the disk until SIGKILL; 0 is never.
    """
    style.DPI = 30
    if killed_at:
        kill_at_call(os, "fsync", killed_at)
    sys.exit(cli.main(list(words)))


def kill_at_call(owner: Any, name: str, number: int) -> None:
    """Have this process kill itself (-9) instead of calling a function for the nth time."""
    original, left = getattr(owner, name), number

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **options)

    setattr(owner, name, counted)
