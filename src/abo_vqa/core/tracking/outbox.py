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
from pathlib import Path

from filelock import FileLock, Timeout

from abo_vqa.core.errors import UserError
from abo_vqa.core.tracking.addresses import is_server, mask_login, sqlite_file, store, store_name
from abo_vqa.core.tracking.failures import (
    is_final,
    is_of_one_record,
    long_uploads,
    reason,
    warn,
)
from abo_vqa.core.tracking.pending import count_records, keep, pending_folder
from abo_vqa.core.tracking.record_base import Record, RunRegistry
from abo_vqa.core.tracking.records import RunStart, from_json
from abo_vqa.core.tracking.store_checks import check_store

FLUSH_TIMEOUT_S = 15.0  # how long to try without success after the work is done
_LAST_TRY_S = 2.0  # … where that has failed for as long already, or nothing answers at all
_MOST_FAILURES = 2  # of records in a channel, before the others have to wait
_LONGEST_S = 30.0  # between two attempts while the work is running
# How long one record may take once the work is done: a large model is still being uploaded, but a
# database that answers nothing would never come back.
_STUCK_S = {"database": 60.0, "files": 1800.0}


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
        self._failing_since = 0.0
        self._away = False  # whether the store didn't answer when it was asked last
        self._current: tuple[str, float] | None = None  # the channel that is used, since when
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
            closing = self._closing.is_set()  # before the attempt: one comes after it in any case
            if self.write_pending():
                pause, succeeded = 1.0, time.monotonic()
            elif closing:
                if not self.pending:
                    return
                succeeded = max(succeeded, self._closed_at)
                if time.monotonic() - succeeded > self._patience():
                    return
                time.sleep(min(pause, 2.0))
                pause *= 2
            elif self.pending:  # the store can't be used: not all the time
                self._closing.wait(pause)
                pause = min(2 * pause, _LONGEST_S)
            else:
                self._added.wait()
                self._added.clear()

    def _patience(self) -> float:
        """Return how long to try without success after the work is done."""
        failing = self._failing_since and self._closed_at - self._failing_since > FLUSH_TIMEOUT_S
        return min(_LAST_TRY_S, FLUSH_TIMEOUT_S) if failing or self._away else FLUSH_TIMEOUT_S

    def write_pending(self) -> bool:
        """Try every waiting record once, and tell whether any was settled.

        A run must be opened before anything else about it; other records don't wait for each
        other, so that a full artifact disk keeps no metric back.
        """
        with self._lock:
            batch = list(self.pending)
        if not batch or not self._is_reachable():
            return False
        settled = False
        failures: Counter[str] = Counter()  # by channel; enough of them make it unusable for now
        for record in batch:
            if failures[record.channel] >= _MOST_FAILURES or self._out_of_time():
                continue
            error = self._attempt(record)
            if error is None:
                settled = True
                self._take_out(record)
            elif isinstance(record, RunStart):
                break
            else:
                own = is_of_one_record(error)
                if not own and not self._is_reachable():
                    break  # neither the other channel
                failures[record.channel] += 1 if own else _MOST_FAILURES
                self._take_out(record, record)  # behind the others, which it may not hold up
        return settled

    def _take_out(self, record: Record, *instead: Record) -> None:
        """Take a record out of those that wait, and add others at their end."""
        with self._lock:
            self.pending = [other for other in self.pending if other is not record]
            self.pending += instead

    def _is_reachable(self) -> bool:
        """Tell whether the store can be used, by a question with a short time limit.

        It is asked after a failure only: a request to a server that accepts and never answers
        takes far longer than the question does.
        """
        if not self.problem or sqlite_file(uri := store()[0]) is not None:
            return True
        try:
            check_store(uri)
        except UserError as error:
            self.problem, self._away = reason(error), True
            return False
        self._away = False
        return True

    def _out_of_time(self) -> bool:
        """Tell whether a closing outbox has tried, record after record, for too long."""
        limit = 3 * FLUSH_TIMEOUT_S
        return bool(self.problem and self._closing.is_set()) and (
            time.monotonic() - self._closed_at > limit
        )

    def _attempt(self, record: Record) -> Exception | None:
        """Write one record; return why it isn't settled, which is written or refused for good.

        Whatever a library raises here must not end the thread, still less the work.
        """
        self._current = record.channel, time.monotonic()
        try:
            with long_uploads(record.channel == "files" and is_server(store()[0])):
                record.deliver(self.runs)
        except Exception as error:
            if is_final(error):
                self.rejected.append((record, reason(error)))
                return None
            self.problem = reason(error)
            self._failing_since = self._failing_since or time.monotonic()
            return error
        finally:
            self._current = None
        self.problem, self._failing_since = "", 0.0
        return None

    def close(self) -> None:
        """Wait until everything is written, or until nothing gets through for a while."""
        self._closed_at = time.monotonic()
        self._closing.set()
        self._added.set()
        try:
            while self._thread.is_alive() and not self._is_stuck():
                self._thread.join(1.0)
        finally:  # also after Ctrl-C
            self._keep_pending()

    def _is_stuck(self) -> bool:
        """Tell whether the thread has waited for one record for longer than any may take.

        The thread is left behind then. If the record is written after all, it is so twice, which
        does no harm.
        """
        if (current := self._current) is None:
            return False
        channel, since = current
        stuck = time.monotonic() - max(since, self._closed_at) > _STUCK_S[channel]
        if stuck:
            self.problem = f"no answer within {_STUCK_S[channel]:.0f} s"
        return stuck

    def warn_of_rejected(self) -> None:
        """Warn once of each kind of record that was refused, and why."""
        for line in dict.fromkeys(f"{record.what}: {why}" for record, why in self.rejected):
            warn(f"not recorded: {line}")

    def _keep_pending(self) -> None:
        """Keep what wasn't written in a file, and say so."""
        self.warn_of_rejected()
        if not self.pending:
            return
        listed = ", ".join(count_records(self.pending))
        try:
            file = keep(self.pending, self.runs)
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


def deliver_pending() -> bool:
    """Write what earlier processes left for this store, and report on it.

    Returns:
        Whether nothing is left.
    """
    for file in sorted(pending_folder().glob("*.json")):
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
    if mask_login(content["store"]) != store_name():
        return True  # another store's, for which it stays pending
    outbox = Outbox(RunRegistry({handle: tuple(ids) for handle, ids in content["ids"].items()}))
    records = [from_json(value) for value in content["records"]]
    outbox.pending = list(records)
    idle = 0  # the first attempt may have met nothing but records that are refused
    while outbox.pending and idle < 2:
        idle = 0 if outbox.write_pending() else idle + 1
    outbox.warn_of_rejected()
    if outbox.pending:
        keep(outbox.pending, outbox.runs)
        warn(f"still pending: {', '.join(count_records(outbox.pending))}: {outbox.problem}")
        return False
    file.unlink()
    rejected = {id(record) for record, _ in outbox.rejected}
    if written := [record for record in records if id(record) not in rejected]:
        warn(f"recorded pending data of an earlier run: {', '.join(count_records(written))}")
    return True
