"""Download a tar: resumable, verified, atomic.

Own code because `dvc import-url` neither resumes an interrupted download nor verifies the content.

A dropped connection resumes where it stopped, after the server has confirmed (If-Range, RFC 9110)
that the file is still the same. The result is checked by its length, as a complete tar, and by
SHA-256 where that is known. A file gets its name only when it is complete and correct.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests
from filelock import FileLock, Timeout
from requests import Response
from urllib3.exceptions import HTTPError

from abo_vqa.core.data_config import DownloadConfig
from abo_vqa.core.errors import AboVqaError, RetryLaterError, UserError
from abo_vqa.core.fingerprints import fingerprint
from abo_vqa.core.json_files import read_json, write_json
from abo_vqa.core.log import get_logger
from abo_vqa.core.progress import progress_bar
from abo_vqa.core.scratch import cache
from abo_vqa.core.system_errors import report_full_disk
from abo_vqa.data.verify import verify_archive

logger = get_logger(__name__)

_CHUNK_SIZE = 1 << 20  # bytes between writes: little is lost if the process is killed


@dataclass(frozen=True)
class RetryPolicy:
    """When to try again and when to give up.

    Attributes:
        attempts: connections in a row that bring nothing new.
        wait: seconds before the second attempt; doubled before each further one, up to a minute.
        timeout: seconds without a byte.
    """

    attempts: int = 8
    wait: float = 1.0
    timeout: float = 30.0


class _InterruptedDownloadError(AboVqaError):
    """The connection failed or the server was busy; another attempt may help."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass
class PartialDownload:
    """An unfinished download: the bytes so far, and what tells whether they are still valid.

    Attributes:
        path: the file of the bytes.
        url: where they come from.
        validator: the file's ETag or Last-Modified; "" if the server names neither.
        total: the file's length in bytes; None while unknown.
    """

    path: Path
    url: str
    validator: str = ""
    total: int | None = None

    @property
    def state_path(self) -> Path:
        """The file of the state, beside the bytes."""
        return self.path.with_name(self.path.name + ".json")

    @property
    def done(self) -> int:
        """How many bytes there are."""
        return self.path.stat().st_size if self.path.exists() else 0

    def load(self) -> None:
        """Continue what an earlier process left, if it is from the same address."""
        if not self.state_path.exists():
            self.restart()
            return
        try:
            state = read_json(self.state_path)
        except UserError:
            state = {}
        self.validator, self.total = state.get("validator", ""), state.get("total")
        fits = self.total is None or self.done <= self.total
        if state.get("url") != self.url or not fits:
            self.restart()

    def save(self) -> None:
        """Write the state."""
        state = {"url": self.url, "validator": self.validator, "total": self.total}
        write_json(state, self.state_path)

    def restart(self) -> None:
        """Remove the bytes, which belong to another file or can't be trusted."""
        self.validator, self.total = "", None
        self.path.unlink(missing_ok=True)
        self.state_path.unlink(missing_ok=True)


def download_archive(remote: DownloadConfig, target: Path, retry: RetryPolicy) -> DownloadConfig:
    """Download a file, or check the one that is there.

    Args:
        remote: the address, and size and SHA-256 where known.
        target: the file.
        retry: when to give up.

    Returns:
        the address with size and SHA-256 of the file.

    Raises:
        UserError: the address is wrong, the disk is full, or the content isn't what was recorded.
        RetryLaterError: the connection kept failing; the same command resumes.
    """
    if target.exists():
        return verify_archive(remote, target, target)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = PartialDownload(target.with_name(f".{target.name}.part"), remote.url)
    with lock_folder(target.parent):
        partial.load()
        if partial.done and not partial.validator and not remote.sha256:
            partial.restart()  # nothing tells whether old and new bytes belong together
        _receive_all(partial, remote, retry)
        digest = verify_archive(remote, partial.path, target)
        with partial.path.open("rb") as written:
            os.fsync(written.fileno())
        partial.path.replace(target)
        partial.state_path.unlink(missing_ok=True)
    return digest


def _receive_all(partial: PartialDownload, remote: DownloadConfig, retry: RetryPolicy) -> None:
    """Connect again and again until every byte is there."""
    failures, reached = 0, partial.done > 0
    while partial.total is None or partial.done < partial.total:
        before = partial.done
        try:
            _receive(partial, remote, retry.timeout)
            return
        except _InterruptedDownloadError as stop:
            reached = reached or partial.done > 0 or partial.total is not None
            if not partial.validator and not remote.sha256:
                partial.restart()
            failures = 1 if partial.done > before else failures + 1
            if failures >= retry.attempts:
                outlook = _outlook(partial, reached)
                raise RetryLaterError(
                    f"{partial.url}: {stop}, {failures} times in a row. {outlook}"
                ) from stop
            wait = min(60.0, retry.wait * 2 ** (failures - 1)) * random.uniform(0.8, 1.2)
            wait = max(wait, stop.wait or 0.0)
            logger.warning(f"{partial.url}: {stop}; again in {wait:.0f} s")
            time.sleep(wait)


def _outlook(partial: PartialDownload, reached: bool) -> str:
    """Say what running the same command again will do.

    Args:
        partial: the unfinished download.
        reached: whether the server was ever reached.
    """
    if partial.done:
        total = f" of {partial.total:,}" if partial.total else ""
        return f"{partial.done:,}{total} bytes are saved; the same command continues from there."
    if not reached:
        return "Nothing has arrived; run the same command again once the server can be reached."
    return (
        "Nothing could be kept: the server sends no ETag or Last-Modified, so a partial file can't "
        "be resumed safely. Add the file's sha256 to the profile to resume interrupted downloads "
        "anyway."
    )


def _receive(partial: PartialDownload, remote: DownloadConfig, timeout: float) -> None:
    """Open one connection and append what arrives to the partial file.

    Raises:
        _InterruptedDownloadError: it ended too early.
        UserError: trying again wouldn't help.
    """
    start = partial.done
    # Without "identity" a proxy may compress, which changes the meaning of lengths and ranges.
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if partial.validator:
            headers["If-Range"] = partial.validator
    try:
        with requests.get(remote.url, headers=headers, stream=True, timeout=timeout) as response:
            if not _accept(response, partial, start):
                return
            _check_space(partial)
            append_body(response, partial)
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


def _accept(response: Response, partial: PartialDownload, start: int) -> bool:
    """Check the server's response and make the partial file fit it.

    Returns:
        whether there is a body to read.
    """
    status = response.status_code
    if status == 416:  # the file ends here, or is shorter than what we have
        length = response.headers.get("Content-Range", "").rpartition("/")[2]
        if length == str(start) and partial.total in (None, start):
            partial.total = start
            return False
        partial.restart()
        raise _InterruptedDownloadError("the file became shorter; starting over", wait=0.0)
    if status in (408, 429) or status >= 500:
        raise _InterruptedDownloadError(f"the server answers {status}", wait=_retry_after(response))
    if status not in (200, 206):
        raise UserError(
            f"{partial.url} answers {status} {response.reason}. Check the address in the profile "
            "(conf/profiles), and https://amazon-berkeley-objects.s3.amazonaws.com/index.html."
        )
    validator, total = _validator_and_length(response)
    if status == 206:
        moved = not response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        # What this response leaves out is unchanged: If-Range has made sure of it.
        validator, total = validator or partial.validator, total or partial.total
        changed = partial.validator not in ("", validator) or partial.total not in (None, total)
        if moved or changed:
            partial.restart()
            raise _InterruptedDownloadError(
                "the file changed on the server; starting over", wait=0.0
            )
    elif start:
        logger.warning(f"{partial.url}: this server can't resume; starting over")
        partial.restart()
    partial.validator, partial.total = validator, total
    partial.save()
    return True


def _validator_and_length(response: Response) -> tuple[str, int | None]:
    """The validator of this version of the file for If-Range (no weak ETag), and its length."""
    etag = response.headers.get("ETag", "")
    validator = response.headers.get("Last-Modified", "") if etag.startswith("W/") else etag
    validator = validator or response.headers.get("Last-Modified", "")
    length = response.headers.get("Content-Length", "")
    if response.status_code == 206:
        length = response.headers.get("Content-Range", "").rpartition("/")[2]
    return validator, int(length) if length.isdigit() else None


def _retry_after(response: Response) -> float | None:
    """Seconds that the server asks to wait, at most five minutes; None if it doesn't say."""
    text = response.headers.get("Retry-After", "")
    return min(300.0, float(text)) if text.isdigit() else None


def _describe_failure(error: Exception) -> str:
    """Why a connection failed, in a few words instead of a library's chain of reasons."""
    text = str(error).lower()
    if "timed out" in text:
        return "no data arrives"
    if "name resolution" in text or "name or service" in text or "getaddrinfo" in text:
        return "the server's name isn't known here (no network?)"
    if "refused" in text:
        return "the server refuses the connection"
    return "the connection broke"


def _check_space(partial: PartialDownload) -> None:
    """Refuse a download that the disk has no room for."""
    missing = (partial.total or 0) - partial.done
    free = shutil.disk_usage(partial.path.parent).free
    if missing > free:
        raise UserError(
            f"{partial.path.parent} has {free:,} bytes free, {missing:,} more are needed. "
            "Free some space, then run the same command again; downloaded data is kept."
        )


def append_body(response: Response, partial: PartialDownload) -> None:
    """Append a response's body to the partial file, with a progress bar.

    Args:
        response: the response.
        partial: the unfinished download.
    """
    bar = progress_bar(
        partial.total,
        initial=partial.done,
        desc=partial.path.name.removeprefix(".").removesuffix(".part"),
        unit="B",
        unit_scale=True,
    )
    with report_full_disk(partial.path), bar, partial.path.open("ab") as out:
        # read1 returns what has arrived, so that nothing is lost if the connection breaks.
        while chunk := response.raw.read1(_CHUNK_SIZE):
            out.write(chunk)
            out.flush()  # everything or an error; an unbuffered file may silently write a part
            bar.update(len(chunk))


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Keep a second process from downloading into the same folder.

    Args:
        folder: the folder.

    Raises:
        UserError: another process holds the lock.
    """
    # Elsewhere: what lies in the folder is pinned by DVC.
    file = cache("locks") / f"download-{fingerprint(str(folder.resolve()))}.lock"
    lock = FileLock(file, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(f"another process is already downloading to {folder}.") from None
    try:
        yield
    finally:
        lock.release()
