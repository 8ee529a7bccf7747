"""The quota ledger: every request is recorded before it is sent, so that quotas hold.

This is our own code because no library keeps a record of requests that survives a restart: rate
limiters count in memory, or in a server that a user would have to run.

One small SQLite file holds the requests of the last days by key and model, for all processes of a
checkout. It survives kills, so a restart can't use up the same minute's quota twice.

A request counts from before it is sent until `window` seconds after the server has seen it, at
the latest (`arrivals`). So 60 / 62 of a quota are used, 97%, and no 60 s of the server's clock hold
more than the quota as long as a request is on its way for less than 2 s where replies are as usual.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone, tzinfo
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import psutil

from abo_vqa.remote.arrivals import TRAVEL_S, ArrivalEstimator

_MINUTE = 60.0
_DAY = 86_400.0
GOOGLE_ZONE = "America/Los_Angeles"  # where midnight resets the daily quotas of Google's API

# `done`: until when the server may have seen the request, in Unix seconds; NULL while it is on its
# way. `sent`: when it was reserved.
_TABLES = """
CREATE TABLE IF NOT EXISTS calls (
    id INTEGER PRIMARY KEY, key TEXT, model TEXT, journal TEXT, pid INTEGER, started REAL,
    sent REAL, done REAL, tokens INTEGER, cost REAL);
DROP INDEX IF EXISTS calls_recent;
CREATE INDEX IF NOT EXISTS calls_window ON calls (key, model, done, tokens);
CREATE INDEX IF NOT EXISTS calls_unknown ON calls (journal) WHERE cost IS NOT NULL;
CREATE TABLE IF NOT EXISTS days (key TEXT, model TEXT, day REAL, requests INTEGER,
    PRIMARY KEY (key, model, day));
CREATE TABLE IF NOT EXISTS pauses (key TEXT, model TEXT, until REAL, day INTEGER,
    PRIMARY KEY (key, model, day));
"""


@dataclass(frozen=True)
class Quota:
    """What one key may send.

    Attributes:
        requests_per_minute: over any 60 seconds.
        tokens_per_minute: tokens over any 60 seconds, as the vendor counts them for its quota.
        requests_per_day: from midnight to midnight in the vendor's time zone.
        zone: that time zone.
    """

    requests_per_minute: int
    tokens_per_minute: int
    requests_per_day: int
    zone: str = GOOGLE_ZONE


@dataclass(frozen=True)
class QuotaDelay:
    """A request can't be sent now.

    Attributes:
        until: the earliest moment to try again, in Unix seconds.
        day: whether the daily quota is spent, which isn't worth waiting for.
        quota: the setting with the quota that is used up, or "": the service asks to wait.
    """

    until: float
    day: bool = False
    quota: str = ""


@cache
def _time_zone(name: str) -> tzinfo:
    """Return a vendor's time zone; without a time zone database its winter time."""
    try:
        return ZoneInfo(name)
    except ZoneInfoNotFoundError:
        return timezone(timedelta(hours=-8 if name == GOOGLE_ZONE else 0))


def day_start(now: float, zone: str = GOOGLE_ZONE) -> float:
    """Return the vendor's last midnight before `now`, in Unix seconds."""
    local = datetime.fromtimestamp(now, _time_zone(zone))
    return local.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()


def next_day(now: float, zone: str = GOOGLE_ZONE) -> float:
    """Return the vendor's next midnight after `now`, also on days with a clock change."""
    local = datetime.fromtimestamp(now, _time_zone(zone))
    midnight = (local + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight.timestamp()


def _is_running(pid: int, started: float) -> bool:
    """Return whether the process that wrote a row still runs: process ids are reused."""
    try:
        return abs(psutil.Process(pid).create_time() - started) < 1
    except psutil.Error:
        return False


class Ledger:
    """The record of requests sent. Thread-safe; any number of processes may share the file."""

    def __init__(self, path: Path, window: float = _MINUTE) -> None:
        """Open or create the file, and close the requests of killed processes.

        Args:
            path: the SQLite file.
            window: seconds that the quotas per minute are about.
        """
        self._window, self._arrivals = window, ArrivalEstimator()
        self._lock = threading.Lock()
        self._pid, self._started = os.getpid(), psutil.Process().create_time()
        self._db = sqlite3.connect(path, timeout=60, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        # A killed process loses nothing; a power cut may lose the last rows, and a minute of quota.
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(_TABLES)
        self._clean_up()

    def _clean_up(self) -> None:
        """Delete old rows; end the requests of killed processes.

        The server may have seen those until just before, so their minute begins now.
        """
        now = time.time()
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            # Rows with a cost stay reserved; those that can have cost nothing aren't needed.
            self._db.execute(
                "DELETE FROM calls WHERE done < ? AND (cost IS NULL OR cost = 0)", (now - 3 * _DAY,)
            )
            self._db.execute("DELETE FROM days WHERE day < ?", (now - 3 * _DAY,))
            self._db.execute("DELETE FROM pauses WHERE until < ?", (now,))
            processes = self._db.execute(
                "SELECT DISTINCT pid, started FROM calls WHERE done IS NULL"
            ).fetchall()
            for pid, started in processes:
                if not _is_running(pid, started):
                    self._db.execute(
                        "UPDATE calls SET done = ? WHERE done IS NULL AND pid = ? AND started = ?",
                        (now, pid, started),
                    )

    def reserve(
        self, key: str, model: str, quota: Quota, tokens: int, cost: float, journal: str
    ) -> int | QuotaDelay:
        """Take a place in the window for one request.

        Args:
            key: the key's id (never the key itself).
            model: the model's name: quotas are per key and model.
            quota: what the key may send.
            tokens: the request's tokens, about, as the quota counts them.
            cost: USD that it costs at most; they stay reserved until the reply is known.
            journal: the name of the journal that will hold the reply.

        Returns:
            the call's number, for `finish`; or how long to wait.
        """
        now = time.time()
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            delay = self._pause(key, model, now) or self._quota_delay(
                key, model, quota, tokens, now
            )
            if delay:
                return delay
            row = self._db.execute(
                "INSERT INTO calls (key, model, journal, pid, started, sent, tokens, cost)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (key, model, journal, self._pid, self._started, now, tokens, cost),
            )
            self._db.execute(
                "INSERT INTO days VALUES (?, ?, ?, 1) ON CONFLICT (key, model, day)"
                " DO UPDATE SET requests = requests + 1",
                (key, model, day_start(now, quota.zone)),
            )
            return int(row.lastrowid or 0)

    def _pause(self, key: str, model: str, now: float) -> QuotaDelay | None:
        row = self._db.execute(
            "SELECT until, day FROM pauses WHERE key = ? AND model = ? AND until > ?"
            " ORDER BY until DESC LIMIT 1",
            (key, model, now),
        ).fetchone()
        return QuotaDelay(row[0], bool(row[1])) if row else None

    def _quota_delay(
        self, key: str, model: str, quota: Quota, tokens: int, now: float
    ) -> QuotaDelay | None:
        """Return the delay that the quotas demand, or None."""
        today = self._db.execute(
            "SELECT requests FROM days WHERE key = ? AND model = ? AND day = ?",
            (key, model, day_start(now, quota.zone)),
        ).fetchone()
        if today and today[0] >= quota.requests_per_day:
            return QuotaDelay(next_day(now, quota.zone), day=True)
        usual = self._arrivals.usual_latency(now)
        # Counted by the index alone: there may be tens of thousands.
        (pending, pending_tokens), (ended, ended_tokens) = self._db.execute(
            "SELECT COUNT(*), COALESCE(SUM(tokens), 0) FROM calls"
            " WHERE key = ?1 AND model = ?2 AND done IS NULL"
            # Where replies usually take longer than a minute, the server saw old ones long ago.
            " AND (sent >= ?4 OR sent < ?5) UNION ALL"
            " SELECT COUNT(*), COALESCE(SUM(tokens), 0) FROM calls"
            " WHERE key = ?1 AND model = ?2 AND done > ?3",
            (key, model, now - self._window, now - self._window - TRAVEL_S, now - usual),
        ).fetchall()
        excess_requests = pending + ended + 1 - quota.requests_per_minute
        excess_tokens = pending_tokens + ended_tokens + tokens - quota.tokens_per_minute
        if excess_requests <= 0 and (excess_tokens <= 0 or not pending + ended):
            return None
        until, enough = self._until_free(key, model, now, excess_requests, excess_tokens)
        # The minute of those still on their way hasn't begun.
        spent = "requests_per_minute" if excess_requests > 0 else "tokens_per_minute"
        return QuotaDelay(until if enough or not pending else now + 0.05, quota=spent)

    def _until_free(
        self, key: str, model: str, now: float, excess_requests: int, excess_tokens: int
    ) -> tuple[float, bool]:
        """Return when the excess has left the window, and whether all of it ever does.

        Only requests that have ended leave it.

        Args:
            key: the key's id.
            model: the model's name.
            now: Unix seconds.
            excess_requests: how many have to leave it.
            excess_tokens: tokens that have to.
        """
        until = now
        oldest_first = self._db.execute(
            "SELECT done, tokens FROM calls WHERE key = ? AND model = ? AND done > ? ORDER BY done",
            (key, model, now - self._window),
        )
        for done, call_tokens in oldest_first:
            if excess_requests <= 0 and excess_tokens <= 0:
                break
            excess_requests, excess_tokens = excess_requests - 1, excess_tokens - call_tokens
            until = done + self._window
        return until, excess_requests <= 0 and excess_tokens <= 0

    def finish(
        self,
        call: int,
        tokens: int | None = None,
        *,
        sent: float | None = None,
        cost_known: bool = True,
    ) -> None:
        """Record that the reply came, or won't: the request's minute has begun.

        Args:
            call: the number from `reserve`.
            tokens: its tokens by the vendor's count, as the quota counts them, if known.
            sent: Unix seconds when a request was sent that was answered. Of one that wasn't, nobody
                knows when the server saw it: its minute begins now.
            cost_known: the journal holds what it cost, or it cost nothing. Otherwise it counts as
                reserved.
        """
        now = time.time()
        with self._lock, self._db:
            arrival = now if sent is None else self._arrivals.latest_arrival(sent, now)
            self._db.execute(
                "UPDATE calls SET done = ?, tokens = COALESCE(?, tokens),"
                " cost = CASE WHEN ? THEN NULL ELSE cost END WHERE id = ?",
                (arrival, tokens, cost_known, call),
            )

    def pause(self, key: str, model: str, until: float, *, day: bool = False) -> None:
        """Don't use a key before a moment; a longer pause stays.

        Args:
            key: the key's id.
            model: the model's name.
            until: Unix seconds.
            day: whether it is because the daily quota is spent.
        """
        with self._lock, self._db:
            self._db.execute(
                "INSERT INTO pauses VALUES (?, ?, ?, ?) ON CONFLICT (key, model, day)"
                " DO UPDATE SET until = MAX(until, excluded.until)",
                (key, model, until, int(day)),
            )

    def clear_daily_pauses(self) -> None:
        """Allow keys again whose daily quota the vendor reported as spent."""
        with self._lock, self._db:
            self._db.execute("DELETE FROM pauses WHERE day = 1")

    def reserved_cost(self, *journals: str) -> float:
        """Return the USD that requests without a known reply may have cost.

        Those are the requests of some journals that are in flight, timed out, or were killed.
        """
        query = "SELECT COALESCE(SUM(cost), 0) FROM calls WHERE journal = ? AND cost IS NOT NULL"
        with self._lock:
            return sum(float(self._db.execute(query, (name,)).fetchone()[0]) for name in journals)

    def close(self) -> None:
        """Close the file."""
        self._db.close()
