"""Objects that are read in ranges, through fsspec: S3, GCS, Azure, HTTP and whatever else it knows.

fsspec and the stores' libraries are imported when the first object is opened. Credentials and
endpoints are theirs: `AWS_…` variables, `~/.aws`, `FSSPEC_<PROTOCOL>_<OPTION>`.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from abo_vqa.core.errors import UserError
from abo_vqa.core.log import get_logger
from abo_vqa.core.remote_pin import ObjectVersion, url_problem
from abo_vqa.data.object_errors import (
    changed_object,
    describe_missing_package,
    is_transient,
    network_failure,
    permanent_fault,
)

logger = get_logger(__name__)

CONCURRENCY = 64
"""Requests in flight: a store answers each after 10 to 100 ms, and hundreds at a time."""

_ATTEMPTS = 6
_FIRST_WAIT = 0.5  # seconds, doubled before each further attempt
_CHECK_INTERVAL = 10.0  # seconds between two looks at an object's version, where reads don't check
_VERSION_KEYS = ("ETag", "etag", "generation", "version", "content_md5", "md5Hash")
_TIME_KEYS = ("LastModified", "last_modified", "mtime", "updated", "modified", "created")

_T = TypeVar("_T")
Range = tuple[int, int]
"""First byte, and the one behind the last."""


def list_folder(url: str) -> list[str]:
    """List the names in a folder of a store.

    Args:
        url: of the folder.

    Raises:
        UserError: the protocol isn't known or its package missing, there is no such bucket or
            folder, or access is denied.
        RetryLaterError: the network kept failing.
    """
    filesystem, path = _filesystem(url, None)
    try:
        names = _retried(url, lambda: filesystem.ls(path, detail=False))
    except FileNotFoundError:
        raise UserError(
            f"there is no bucket or folder {url}. Correct the URL (data.raw of the profile), or "
            "copy the archives there."
        ) from None
    return sorted(str(name).rstrip("/").rpartition("/")[2] for name in names)


def upload_file(file: Path, url: str) -> None:
    """Copy a file to a store, in parts where it is large; an object of that name is replaced.

    Args:
        file: the file.
        url: of the object.

    Raises:
        UserError: the protocol isn't known or its package missing, there is no such bucket, or
            access is denied.
        RetryLaterError: the network kept failing.
    """
    filesystem, path = _filesystem(url, None)

    def put() -> None:
        filesystem.put_file(str(file), path)
        filesystem.invalidate_cache()
        size = filesystem.info(path)["size"]
        if size != file.stat().st_size:
            raise ConnectionError(f"only {size:,} bytes arrived")

    try:
        _retried(url, put, "written")
    except FileNotFoundError:
        raise UserError(
            f"{url} can't be written: there is no such bucket. Create it, or correct the URL."
        ) from None


class RemoteObject:
    """An object whose ranges are read; all of them belong to one version of it. Thread-safe.

    Attributes:
        url: the object's.
        state: its size and version.
        transferred: bytes read so far.

    Args:
        url: the object's.

    Raises:
        FileNotFoundError: there is no such object.
        UserError: the protocol isn't known or its package missing, or access is denied.
        RetryLaterError: the network kept failing.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.transferred = 0
        self._lock = threading.Lock()
        self.state = self._stat()
        self._checked = time.monotonic()
        self._process = -1

    def _stat(self) -> ObjectVersion:
        """Ask the store for the object's size and version."""
        filesystem, path = _filesystem(self.url, None)

        def ask() -> dict[str, Any]:
            filesystem.invalidate_cache()
            info: dict[str, Any] = filesystem.info(path)
            return info

        info = _retried(self.url, ask)
        if info.get("type") == "directory" or info.get("size") is None:
            raise FileNotFoundError(self.url)
        versions = [info[key] for key in (*_VERSION_KEYS, *_TIME_KEYS) if info.get(key)]
        return ObjectVersion(int(info["size"]), str(versions[0]).strip('"') if versions else "")

    def _open(self) -> tuple[Any, str]:
        """The file system of this process: connections don't survive a fork."""
        with self._lock:
            if self._process != os.getpid():
                self._opened = _filesystem(self.url, self.state.version)
                self._process = os.getpid()
            return self._opened

    def read(self, ranges: Sequence[Range]) -> list[bytes]:
        """Read some ranges at the same time.

        Args:
            ranges: in any order.

        Raises:
            ObjectChangedError: the object isn't the one that was opened.
            UserError: access is denied.
            RetryLaterError: the network kept failing.
        """
        filesystem, path = self._open()
        parts: list[bytes | None] = [None] * len(ranges)

        def fetch() -> None:
            missing = [i for i, part in enumerate(parts) if part is None]
            answers = filesystem.cat_ranges(
                [path] * len(missing),
                [ranges[i][0] for i in missing],
                [ranges[i][1] for i in missing],
                on_error="return",
                **({"batch_size": CONCURRENCY} if filesystem.async_impl else {}),
            )
            fault: Exception | None = None
            for i, answer in zip(missing, answers, strict=True):
                if isinstance(answer, Exception):
                    fault = answer
                elif len(answer) == ranges[i][1] - ranges[i][0]:
                    parts[i] = bytes(answer)
                    self.transferred += len(answer)
                else:
                    fault = fault or ConnectionError(f"only {len(answer):,} bytes arrived")
            if fault is not None:
                raise fault

        try:
            _retried(self.url, fetch)
        except FileNotFoundError:
            raise changed_object(self.url) from None
        self.check(_CHECK_INTERVAL)
        return [part for part in parts if part is not None]

    def check(self, interval: float = 0.0) -> None:
        """Check that the store still has the version that was opened.

        Args:
            interval: not if it was checked within so many seconds.

        Raises:
            ObjectChangedError: it has another one, or none.
        """
        if time.monotonic() - self._checked < interval:
            return
        try:
            same = self._stat() == self.state
        except FileNotFoundError:
            same = False
        if not same:
            raise changed_object(self.url)
        self._checked = time.monotonic()


def _filesystem(url: str, version: str | None) -> tuple[Any, str]:
    """The file system of a URL, and the path in it.

    Args:
        url: of an object or folder.
        version: S3 is to refuse any other with each read.
    """
    if problem := url_problem(url):
        raise UserError(problem)
    try:
        import fsspec

        scheme = url.partition("://")[0]
        options: dict[str, Any] = {}
        if scheme in ("s3", "s3a"):
            config = {
                "max_pool_connections": CONCURRENCY,
                "connect_timeout": 10,
                "read_timeout": 30,
                "retries": {"mode": "standard", "total_max_attempts": 1},  # s3fs and we try again
            }
            options = {"config_kwargs": config}
            if version:
                options |= {"s3_additional_kwargs": {"IfMatch": f'"{version}"'}}
        filesystem, path = fsspec.core.url_to_fs(url, **options)
    except (ImportError, ValueError) as error:
        raise UserError(describe_missing_package(url, error)) from error
    return filesystem, path


def _retried(url: str, action: Callable[[], _T], done: str = "read") -> _T:
    """Call a function until the network lets it pass.

    Args:
        url: of the object.
        action: the function.
        done: what it does to the object, for messages.

    Raises:
        FileNotFoundError: as the store says.
        UserError: trying again wouldn't help.
        RetryLaterError: it failed too often.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return action()
        except FileNotFoundError:
            raise
        except Exception as error:
            fault = permanent_fault(url, error, done)
            if fault is not None:
                raise fault from error
            if not is_transient(error):
                raise
            if attempt == _ATTEMPTS:
                raise network_failure(url, error, attempt, done) from error
            wait = _FIRST_WAIT * 2 ** (attempt - 1) * random.uniform(0.8, 1.2)
            logger.warning(f"{url}: {type(error).__name__}; again in {wait:.1f} s")
            time.sleep(wait)
    raise AssertionError("unreachable")
