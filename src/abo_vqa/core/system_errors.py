"""What the system refused (a full disk, a read-only one, a missing permission), in one message."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from abo_vqa.core.errors import AboVqaError, UserError

EXIT_CODE = 74  # EX_IOERR: fix the machine, not the command
DISK_FULL_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
PERMISSION_ERRNOS = {errno.EROFS, errno.EACCES, errno.EPERM}
_WRONG_KIND = {errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG}
_DEVICE = {errno.EIO, errno.EMFILE, errno.ENFILE, errno.ESTALE}
# Libraries in C++ and Rust raise exceptions of their own, whose text holds the number:
# "[Errno 28]", "os error 28", "Os { code: 28".
_NUMBER = re.compile(r"(?:errno|os error|Os \{ code:) ?(\d+)", re.IGNORECASE)
# sqlite3's result codes.
_DATABASE = {8: errno.EROFS, 10: errno.EIO, 13: errno.ENOSPC, 14: errno.EACCES}


def find_os_error(error: BaseException) -> OSError | None:
    """Find the system's error that is, or is behind, an exception.

    Args:
        error: the exception.

    Returns:
        The error, with one of the numbers that a user can act on; None for any other exception.
    """
    for cause in _chain(error):
        if (
            isinstance(cause, OSError)
            and cause.errno in DISK_FULL_ERRNOS | PERMISSION_ERRNOS | _WRONG_KIND | _DEVICE
        ):
            return cause
        if isinstance(cause, sqlite3.Error):
            code = _DATABASE.get((getattr(cause, "sqlite_errorcode", None) or 0) & 0xFF)
            if code is not None:
                return OSError(code, str(cause), None)
        for number in map(int, _NUMBER.findall(str(cause))):
            if number in DISK_FULL_ERRNOS | {errno.EROFS}:
                return OSError(number, os.strerror(number), None)
    return None


@contextmanager
def report_full_disk(path: Path, needed: int | None = None) -> Iterator[None]:
    """Name `path` where the block finds the disk full, whatever exception a library raises.

    Args:
        path: what is written.
        needed: its size in bytes, where known.

    Raises:
        NoSpaceError: The disk, a quota or the limit of a file's size is reached.
    """
    try:
        yield
    except Exception as error:
        refused = find_os_error(error)
        if refused is None or refused.errno not in DISK_FULL_ERRNOS:
            raise
        named = NoSpaceError(refused.errno, os.strerror(refused.errno), str(path))
        named.needed = needed
        raise named from error


class NoSpaceError(OSError, AboVqaError):
    """The refusal to store more, described like any other of the system's.

    Attributes:
        needed: the bytes that were to be stored, where known.
    """

    exit_code = EXIT_CODE
    needed: int | None = None


def full_disk(folder: Path) -> OSError | None:
    """Try to store another MiB in a folder; a quota counts as well.

    Args:
        folder: the folder.

    Returns:
        The refusal, None if there is space.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(1 << 20))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error if error.errno in DISK_FULL_ERRNOS else None
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and the ones it was raised from."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def exit_code(error: OSError) -> int:
    """Return 2 where another path on the command line solves the problem, else 74.

    Args:
        error: the refusal.
    """
    return UserError.exit_code if error.errno in _WRONG_KIND else EXIT_CODE


def describe_system_error(error: OSError) -> str:
    """Say what was refused, where, and what to do about it, in one or two sentences.

    Args:
        error: the refusal.
    """
    path = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else None
    place = str(path) if path else "one of its files"
    what = os.strerror(error.errno or 0)
    if error.errno in DISK_FULL_ERRNOS:
        needed = getattr(error, "needed", None)
        takes = "" if needed is None else f"it takes {needed:,} bytes, "
        return (
            f"can't write {place}: {what.lower()}; {takes}{_free_space(path)}. "
            "Files that were there before are intact. Free some space, and run the same command "
            "again: it continues with what is finished."
        )
    if error.errno in PERMISSION_ERRNOS:
        return (
            f"can't use {place}: {what.lower()}{_owner(path)}. Fix that, or choose another place: "
            "use an option to change the path, or copy the checkout to a writable folder."
        )
    if error.errno in _WRONG_KIND:
        return f"can't use {place}: {what.lower()}. Give another path, or move away what is there."
    return f"can't use {place}: {what.lower()}. Fix that, and run the same command again."


def nearest_existing(path: Path | None) -> Path:
    """Return the path itself, or the nearest folder above it that exists.

    Args:
        path: the path; None for the current folder.
    """
    place = (path or Path()).absolute()
    # Path.exists() raises where a folder above may not be looked into.
    return next((p for p in (place, *place.parents) if os.path.exists(p)), Path("/"))  # noqa: PTH110


def _free_space(path: Path | None) -> str:
    """Say how much space is free where a path lies."""
    place = nearest_existing(path)
    folder = place if place.is_dir() else place.parent
    try:
        return f"{shutil.disk_usage(folder).free:,} bytes are free in {folder}"
    except OSError as error:
        return f"how much is free there is unknown ({error.strerror})"


def _owner(path: Path | None) -> str:
    """Say whose the path is and who asks, where that explains a refusal."""
    with suppress(OSError):
        place = nearest_existing(path)
        if place.stat().st_uid != os.geteuid():
            return (
                f" ({place} belongs to user id {place.stat().st_uid}, "
                f"this process to {os.geteuid()})"
            )
    return ""
