"""Scratch folders that one process at a time works in, and that vanish as a whole.

A process whose caller was killed may run on for a while, and the same command may be started twice:
two processes in one folder of checkpoints or answers would ruin each other's work. The lock is the
operating system's (`filelock`), so it ends with its process, however that ends.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from abo_vqa.core.log import get_logger

logger = get_logger(__name__)

_REMOVED = ".removed-"  # in front of the name of a folder that is being removed


def _lock(folder: Path) -> FileLock:
    """Return a folder's lock, next to the stages' folders: it survives the folder's removal.

    The 0 is from versions whose processes had a lock each, and which may be running.
    """
    file = folder.parent.parent / "locks" / folder.parent.name / f"{folder.name}-0.lock"
    file.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(file)


@contextmanager
def locked(folder: Path) -> Iterator[Path]:
    """Work alone in a folder from `scratch.scratch`; it exists within the block.

    While another process has it, wait, after a message that says which one.

    Args:
        folder: the folder.

    Yields:
        The folder.
    """
    lock = _lock(folder)
    owner_file = Path(lock.lock_file).with_suffix(".owner")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.warning(_waiting_for(owner_file, folder))
        lock.acquire(poll_interval=0.2)
    try:
        owner = {"pid": os.getpid(), "host": socket.gethostname()}
        owner_file.write_text(json.dumps(owner), encoding="utf-8")
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
    finally:
        lock.release()


def _waiting_for(owner: Path, folder: Path) -> str:
    """Say which process has the folder, and how to stop it."""
    try:
        recorded = json.loads(owner.read_text(encoding="utf-8"))
        pid, host = int(recorded["pid"]), str(recorded["host"])
    except (OSError, ValueError, KeyError, TypeError):  # it has only just started
        return f"another process is doing the same work in {folder}: waiting until it ends."
    where = "" if host == socket.gethostname() else f" on {host}"
    return (
        f"process {pid}{where} is doing the same work (in {folder}): waiting until it ends. "
        f"`kill {pid}`{where} stops it; this one then continues from where it stopped."
    )


def discard(folder: Path) -> None:
    """Remove a scratch folder whose work is done, unless another process has taken it up.

    It is renamed first: a kill in the middle leaves no folder with half of its files.

    Args:
        folder: the folder; it may be missing.
    """
    try:
        with _lock(folder).acquire(timeout=0):
            if folder.is_dir():
                folder.rename(folder.with_name(f"{_REMOVED}{folder.name}-{os.getpid()}"))
    except Timeout:
        return
    for leftover in folder.parent.glob(f"{_REMOVED}*"):  # this one, and what a kill left
        shutil.rmtree(leftover, ignore_errors=True)
