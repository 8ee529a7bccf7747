"""Download a tar: resumable, verified, atomic.

A dropped connection resumes where it stopped, after the server has confirmed (If-Range) that the
file is still the same one. What arrives is checked by length, as a whole tar, and by SHA-256 where
that is known. A file has its name only when it is complete and right.
"""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from abo_vqa.config import DownloadConfig
from abo_vqa.core.errors import AboVqaError, RetryLaterError, UserError
from abo_vqa.core.json_files import read_json, write_json
from abo_vqa.core.system_errors import storing
from abo_vqa.data.verify import verify_archive

if TYPE_CHECKING:
    from requests import Response

_CHUNK_SIZE = 1 << 20  # bytes between writes: progress moves, a kill loses little


@dataclass(frozen=True)
class RetryPolicy:
    """When to give up.

    Attributes:
        attempts: connections in a row that bring nothing new; wait: seconds before the second, then
            doubled, at most a minute; timeout: seconds without a byte.
    """

    attempts: int = 8
    wait: float = 1.0
    timeout: float = 30.0


class _InterruptedDownloadError(AboVqaError):
    """The connection failed or the server was busy: worth another try after `wait` seconds."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass
class PartialDownload:
    """A download under way: the bytes so far, and what tells whether they are still good.

    Attributes:
        path: the bytes; url: where they come from.
        validator: ETag or Last-Modified of the file they belong to, "" if the server names none.
        total: its length in bytes, None while unknown.
    """

    path: Path
    url: str
    validator: str = ""
    total: int | None = None

    @property
    def notes(self) -> Path:
        return self.path.with_name(self.path.name + ".json")

    @property
    def done(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def recall(self) -> None:
        """Take up what an earlier process left, if it is of the same address."""
        if not self.notes.exists():
            self.restart()
            return
        try:
            notes = read_json(self.notes)
        except UserError:
            notes = {}
        self.validator, self.total = notes.get("validator", ""), notes.get("total")
        fits = self.total is None or self.done <= self.total
        if notes.get("url") != self.url or not fits:
            self.restart()

    def remember(self) -> None:
        write_json({"url": self.url, "validator": self.validator, "total": self.total}, self.notes)

    def restart(self) -> None:
        """Forget the bytes: they belong to another file, or can't be trusted."""
        self.validator, self.total = "", None
        self.path.unlink(missing_ok=True)
        self.notes.unlink(missing_ok=True)


def download_archive(remote: DownloadConfig, target: Path, patience: RetryPolicy) -> DownloadConfig:
    """Bring one file to `target`, or make sure that what is there is right.

    Args:
        remote: the address, and size and SHA-256 if they are known.
    Returns:
        the address with size and SHA-256 of the file.
    Raises:
        UserError: the address is wrong, the disk is full, or the content isn't what was recorded.
        ComeBackLater: the connection kept failing; the same command resumes.
    """
    if target.exists():
        return verify_archive(remote, target, target)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = PartialDownload(target.with_name(f".{target.name}.part"), remote.url)
    with lock_folder(target.parent):
        partial.recall()
        if partial.done and not partial.validator and not remote.sha256:
            partial.restart()  # nothing could show that old and new bytes belong together
        _receive_all(partial, remote, patience)
        found = verify_archive(remote, partial.path, target)
        with partial.path.open("rb") as written:
            os.fsync(written.fileno())
        partial.path.replace(target)
        partial.notes.unlink(missing_ok=True)
    return found


def _receive_all(partial: PartialDownload, remote: DownloadConfig, patience: RetryPolicy) -> None:
    """Connect as often as it takes until every byte is there."""
    failures, answered = 0, partial.done > 0
    while partial.total is None or partial.done < partial.total:
        before = partial.done
        try:
            _receive(partial, remote, patience.timeout)
            return
        except _InterruptedDownloadError as stop:
            answered = answered or partial.done > 0 or partial.total is not None
            if not partial.validator and not remote.sha256:
                partial.restart()
            failures = 1 if partial.done > before else failures + 1
            if failures >= patience.attempts:
                then = _outlook(partial, answered)
                raise RetryLaterError(
                    f"{partial.url}: {stop}, {failures} times in a row. {then}"
                ) from stop
            wait = min(60.0, patience.wait * 2 ** (failures - 1)) * random.uniform(0.8, 1.2)
            wait = max(wait, stop.wait or 0.0)
            print(f"{partial.url}: {stop}; again in {wait:.0f} s", file=sys.stderr)
            time.sleep(wait)


def _outlook(partial: PartialDownload, answered: bool) -> str:
    """What the next start of the same command will find.

    Args:
        answered: whether the server ever was reached.
    """
    if partial.done:
        total = f" of {partial.total:,}" if partial.total else ""
        return f"{partial.done:,}{total} bytes are saved; the same command goes on from there."
    if not answered:
        return "Nothing has come yet; the same command tries again, once the server can be reached."
    return (
        "Nothing could be kept: the server says nothing that tells versions of the file apart. "
        "With the file's sha256 in the profile, interrupted downloads are resumed all the same."
    )


def _receive(partial: PartialDownload, remote: DownloadConfig, timeout: float) -> None:
    """One connection: append what comes to the partial file.

    Raises:
        Interrupted: it ended too early. UserError: trying again wouldn't help.
    """
    import requests
    from urllib3.exceptions import HTTPError

    start = partial.done
    # Without "identity" a proxy may compress, and lengths and ranges mean something else.
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if partial.validator:
            headers["If-Range"] = partial.validator
    try:
        with requests.get(remote.url, headers=headers, stream=True, timeout=timeout) as answer:
            if not _accept(answer, partial, start):
                return
            _check_space(partial)
            append_body(answer, partial)
    except requests.exceptions.SSLError as error:
        raise UserError(
            f"{remote.url}: the server's certificate isn't trusted ({error}). Behind a proxy that "
            "inspects traffic, point REQUESTS_CA_BUNDLE to its certificates."
        ) from error
    except (requests.RequestException, HTTPError, TimeoutError, ConnectionError) as error:
        if isinstance(error, ValueError):  # requests' errors about the address itself
            raise UserError(f"{remote.url!r} isn't an address to download from: {error}") from error
        raise _InterruptedDownloadError(_describe_failure(error)) from error
    if partial.total is not None and partial.done < partial.total:
        raise _InterruptedDownloadError(f"the connection closed after {partial.done:,} bytes")


def _accept(answer: Response, partial: PartialDownload, start: int) -> bool:
    """Judge the server's answer; make the partial file fit it. False: there is nothing to read."""
    status = answer.status_code
    if status == 416:  # nothing after `start`: complete, or longer than the file is now
        length = answer.headers.get("Content-Range", "").rpartition("/")[2]
        if length == str(start) and partial.total in (None, start):
            partial.total = start
            return False
        partial.restart()
        raise _InterruptedDownloadError("the file became shorter; starting over", wait=0.0)
    if status in (408, 429) or status >= 500:
        raise _InterruptedDownloadError(f"the server answers {status}", wait=_retry_after(answer))
    if status not in (200, 206):
        raise UserError(
            f"{partial.url} answers {status} {answer.reason}. Check the address in the profile "
            "(conf/profiles), and https://amazon-berkeley-objects.s3.amazonaws.com/index.html."
        )
    validator, total = _validator_and_length(answer)
    if status == 206:
        moved = not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        # What this answer leaves out stays what it was: If-Range has vouched for it.
        validator, total = validator or partial.validator, total or partial.total
        other = partial.validator not in ("", validator) or partial.total not in (None, total)
        if moved or other:
            partial.restart()
            raise _InterruptedDownloadError(
                "the file changed on the server; starting over", wait=0.0
            )
    elif start:
        print(f"{partial.url}: no resuming of this file; starting over", file=sys.stderr)
        partial.restart()
    partial.validator, partial.total = validator, total
    partial.remember()
    return True


def _validator_and_length(answer: Response) -> tuple[str, int | None]:
    """What names this version of the file (for If-Range, so not a weak ETag), and its length."""
    etag = answer.headers.get("ETag", "")
    validator = answer.headers.get("Last-Modified", "") if etag.startswith("W/") else etag
    validator = validator or answer.headers.get("Last-Modified", "")
    length = answer.headers.get("Content-Length", "")
    if answer.status_code == 206:
        length = answer.headers.get("Content-Range", "").rpartition("/")[2]
    return validator, int(length) if length.isdigit() else None


def _retry_after(answer: Response) -> float | None:
    """Seconds the server asks to wait, at most five minutes; None if it doesn't say."""
    text = answer.headers.get("Retry-After", "")
    return min(300.0, float(text)) if text.isdigit() else None


def _describe_failure(error: Exception) -> str:
    """A connection's end in a few words instead of a library's chain of reasons."""
    text = str(error).lower()
    if "timed out" in text:
        return "no data arrives"
    if "name resolution" in text or "name or service" in text or "getaddrinfo" in text:
        return "the server's name isn't known here (no network?)"
    if "refused" in text:
        return "the server refuses the connection"
    return "the connection broke"


def _check_space(partial: PartialDownload) -> None:
    """Refuse a download the disk can't hold, before it fills up."""
    missing = (partial.total or 0) - partial.done
    free = shutil.disk_usage(partial.path.parent).free
    if missing > free:
        raise UserError(
            f"{partial.path.parent} has {free:,} bytes free, {missing:,} more are needed. "
            "Make room, then run the same command; what is there already stays."
        )


def append_body(answer: Response, partial: PartialDownload) -> None:
    """Append the answer's bytes, with a progress bar."""
    from tqdm import tqdm

    interval = 0.2 if sys.stderr.isatty() else 10.0
    bar = tqdm(
        total=partial.total,
        initial=partial.done,
        desc=partial.path.name.removeprefix(".").removesuffix(".part"),
        unit="B",
        unit_scale=True,
        mininterval=interval,
    )
    with storing(partial.path), bar, partial.path.open("ab") as out:
        # read1 hands over what has arrived, so a connection that breaks loses nothing.
        while chunk := answer.raw.read1(_CHUNK_SIZE):
            out.write(chunk)
            out.flush()  # all of it, or an error: an unbuffered file may take a part in silence
            bar.update(len(chunk))


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Keep a second process from downloading into the same folder.

    Raises:
        UserError: another process is at it.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise UserError(f"another process is downloading to {folder} already.") from None
    finally:
        os.close(handle)  # releases the lock
