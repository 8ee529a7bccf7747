"""Records on their way into MLflow, written by a thread of their own.

The work neither waits for the store nor fails with it: a record that can't be written is tried
again, at last when the work is done. What can't be written even then is kept in a file, and
delivered by the next stage or by `abo-vqa tracking`.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from filelock import FileLock, Timeout
from mlflow.exceptions import MlflowException

from abo_vqa.core.errors import first_line
from abo_vqa.core.files import atomic_write
from abo_vqa.core.log import get_logger
from abo_vqa.core.scratch import cache, project_root
from abo_vqa.core.tracking.backend import sqlite_file, store
from abo_vqa.core.tracking.records import (
    FileChangedError,
    OutdatedRecordError,
    Record,
    RunRegistry,
    RunStart,
    from_json,
)

logger = get_logger(__name__)

FLUSH_TIMEOUT_S = 15.0  # how long to try without success after the work is done
_LONGEST_S = 30.0  # between two attempts while the work is running
# MLflow's answers that another attempt won't change.
_FINAL = {
    "INVALID_PARAMETER_VALUE", "INVALID_STATE", "RESOURCE_DOES_NOT_EXIST", "BAD_REQUEST",
    "RESOURCE_ALREADY_EXISTS", "PERMISSION_DENIED", "FEATURE_DISABLED", "ENDPOINT_NOT_FOUND",
}  # fmt: skip


def _is_final(error: Exception) -> bool:
    """Tell whether a record failed for a reason of its own, not for the store's state."""
    if isinstance(error, MlflowException):
        text = str(error)
        return error.error_code in _FINAL and "locked" not in text
    ours = FileChangedError | OutdatedRecordError
    return isinstance(error, ours | KeyError | TypeError | ValueError)  # UnicodeError is the last


def reason(error: Exception) -> str:
    """Describe an error in one line.

    Args:
        error: the error; of SQLAlchemy's, the database's own error behind it.
    """
    name, line = type(error).__name__, first_line(getattr(error, "orig", None) or error, 200)
    return line if line == name else f"{line} ({name})"


class Outbox:
    """Records that wait, and the thread that writes them.

    Attributes:
        runs: the runs that handles stand for.
        pending: records that aren't written yet.
        rejected: records that were refused for good, and why.
        problem: why the last attempt failed, "" if it succeeded.
    """

    def __init__(self, runs: RunRegistry) -> None:
        self.runs = runs
        self.pending: list[Record] = []
        self.rejected: list[tuple[Record, str]] = []
        self.problem = ""
        self._closed_at = 0.0
        self._lock = threading.Lock()  # guards `pending`
        self._added = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)

    def put(self, record: Record) -> None:
        """Add a record, to be written soon.

        Args:
            record: the record.
        """
        with self._lock:
            self.pending.append(record)
        self._added.set()

    def start(self) -> None:
        """Start writing."""
        self._thread.start()

    def _work(self) -> None:
        """Write until closed and empty, or closed and out of patience."""
        pause, succeeded = 1.0, time.monotonic()
        while True:
            if self.write_pending():
                pause, succeeded = 1.0, time.monotonic()
            elif self._closing.is_set():
                if not self.pending:
                    return
                succeeded = max(succeeded, self._closed_at)
                if time.monotonic() - succeeded > FLUSH_TIMEOUT_S:
                    return
                time.sleep(min(pause, 2.0))
                pause *= 2
            elif self.pending:  # the store can't be used: not all the time
                self._closing.wait(pause)
                pause = min(2 * pause, _LONGEST_S)
            else:
                self._added.wait()
                self._added.clear()

    def write_pending(self) -> bool:
        """Try every waiting record once, and tell whether any was settled.

        A run must be opened before anything else about it; other records don't wait for each
        other, so that a full artifact disk keeps no metric back.
        """
        with self._lock:
            batch = list(self.pending)
        settled = False
        broken: set[str] = set()  # channels that another attempt would wait for in vain
        for record in batch:
            if record.channel in broken or self._out_of_time():
                continue
            if self._attempt(record):
                settled = True
                with self._lock:
                    self.pending = [other for other in self.pending if other is not record]
            elif isinstance(record, RunStart):
                break
            else:
                broken.add(record.channel)
        return settled

    def _out_of_time(self) -> bool:
        """Tell whether a closing outbox has tried, record after record, for too long."""
        limit = 3 * FLUSH_TIMEOUT_S
        return bool(self.problem and self._closing.is_set()) and (
            time.monotonic() - self._closed_at > limit
        )

    def _attempt(self, record: Record) -> bool:
        """Write one record, and tell whether it is settled: written, or refused for good.

        Whatever a library raises here must not end the thread, still less the work.
        """
        try:
            record.deliver(self.runs)
        except Exception as error:
            if _is_final(error):
                self.rejected.append((record, reason(error)))
                return True
            self.problem = reason(error)
            return False
        self.problem = ""
        return True

    def close(self) -> None:
        """Wait until everything is written, or until nothing gets through for a while."""
        self._closed_at = time.monotonic()
        self._closing.set()
        self._added.set()
        try:
            self._thread.join()
        finally:  # also after Ctrl-C
            self._keep_pending()

    def _warn_of_rejected(self) -> None:
        """Warn once of each kind of record that was refused, and why."""
        for line in dict.fromkeys(f"{record.what}: {why}" for record, why in self.rejected):
            warn(f"not recorded: {line}")

    def _keep_pending(self) -> None:
        """Keep what wasn't written in a file, and say so."""
        self._warn_of_rejected()
        if not self.pending:
            return
        listed = ", ".join(_count_points(self.pending))
        try:
            file = _keep(self.pending, self.runs)
        except OSError as error:
            warn(
                f"not recorded: {listed}: {self.problem}; and they couldn't be saved either "
                f"({reason(error)})"
            )
            return
        warn(
            f"not recorded yet: {listed}: {self.problem}. They are kept in {file} and recorded by "
            "the next stage, or by `abo-vqa tracking`."
        )


def warn(text: str) -> None:
    """Warn about the records of runs.

    Args:
        text: the message.
    """
    logger.warning(f"MLflow: {text}")


def _count_points(records: Iterable[Record]) -> list[str]:
    """Count what waits, by kind: ["280 metrics", "the registered model"]."""
    count: Counter[str] = Counter()
    for record in records:
        points = getattr(record, "points", None)
        count[record.what] += len(points) if points is not None else 1
    return [f"{n} {what}" if not what.startswith("the ") else what for what, n in count.items()]


# What waits for the next process


def _pending_folder() -> Path:
    return cache("mlflow")


def _store_name() -> str:
    """Return the store's address; in a checkout, which may be moved, relative to that."""
    uri, root = store()[0], project_root().resolve()
    file = sqlite_file(uri)
    if file is None or not file.is_relative_to(root):
        return uri
    return file.relative_to(root).as_posix()


def _keep(records: list[Record], runs: RunRegistry) -> Path:
    """Write records that wait, with the runs they belong to, into a file of their own."""
    file = _pending_folder() / f"{records[0].run}.json"
    content = {
        "store": _store_name(),
        "ids": runs.ids,
        "records": [record.as_json() for record in records],
    }
    with atomic_write(file) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")
    return file


def deliver_pending() -> bool:
    """Write what earlier processes left for this store, and report on it.

    Returns:
        Whether nothing is left.
    """
    for file in sorted(_pending_folder().glob("*.json")):
        try:
            with FileLock(f"{file}.lock", timeout=0):
                delivered = _deliver_file(file)
        except Timeout:  # another process does it
            continue
        Path(f"{file}.lock").unlink(missing_ok=True)
        if not delivered:
            return False
    return True


def _deliver_file(file: Path) -> bool:
    """Write the records of one file, and delete it once nothing is left."""
    if not file.is_file():
        return True
    content = json.loads(file.read_text(encoding="utf-8"))
    if content["store"] != _store_name():
        return True  # another store's, for which it stays pending
    outbox = Outbox(RunRegistry({handle: tuple(ids) for handle, ids in content["ids"].items()}))
    records = [from_json(value) for value in content["records"]]
    outbox.pending = list(records)
    while outbox.pending and outbox.write_pending():
        pass
    outbox._warn_of_rejected()
    if outbox.pending:
        _keep(outbox.pending, outbox.runs)
        warn(f"still pending: {', '.join(_count_points(outbox.pending))}: {outbox.problem}")
        return False
    file.unlink()
    rejected = {id(record) for record, _ in outbox.rejected}
    if written := [record for record in records if id(record) not in rejected]:
        warn(f"recorded pending data of an earlier run: {', '.join(_count_points(written))}")
    return True
