"""Quotas that hold: every request is written down before it is sent.

One small SQLite file remembers the requests of the last days by key and model, for all processes
of a checkout. It survives kills, so a restart can't send the same minute's quota twice.

A request takes up its place in the window from before it is sent until `window` seconds after its
answer came. The server saw it somewhere in between, so whatever the network's delay, no 60 s of
the server's clock ever hold more than the quota. The price is the latency's share of a minute:
98.7% of the quota at 800 ms.
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

_MINUTE = 60.0
_DAY = 86_400.0
_VENDOR_ZONE = "America/Los_Angeles"  # daily quotas are reset at midnight Pacific time

_TABLES = """
CREATE TABLE IF NOT EXISTS calls (
    id INTEGER PRIMARY KEY, key TEXT, model TEXT, journal TEXT, pid INTEGER, started REAL,
    sent REAL, done REAL, tokens INTEGER, cost REAL);
CREATE INDEX IF NOT EXISTS calls_recent ON calls (key, model, done);
CREATE INDEX IF NOT EXISTS calls_unknown ON calls (journal) WHERE cost IS NOT NULL;
CREATE TABLE IF NOT EXISTS days (key TEXT, model TEXT, day REAL, requests INTEGER,
    PRIMARY KEY (key, model, day));
CREATE TABLE IF NOT EXISTS pauses (key TEXT, model TEXT, until REAL, day INTEGER,
    PRIMARY KEY (key, model, day));
"""


@dataclass(frozen=True)
class Quota:
    """What one key may do."""

    requests_per_minute: int
    tokens_per_minute: int
    requests_per_day: int


@dataclass(frozen=True)
class Wait:
    """Why a request can't be sent now, and the earliest moment (Unix seconds) to try again."""

    until: float
    day: bool = False  # the daily quota: not worth waiting for


@cache
def _vendor_zone() -> tzinfo:
    """The vendor's time zone; without a database of zones its winter time (an hour late)."""
    try:
        return ZoneInfo(_VENDOR_ZONE)
    except ZoneInfoNotFoundError:
        return timezone(timedelta(hours=-8))


def day_start(now: float) -> float:
    """The vendor's last midnight before `now`."""
    local = datetime.fromtimestamp(now, _vendor_zone())
    return local.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()


def next_day(now: float) -> float:
    """The vendor's next midnight after `now` (days with a clock change included)."""
    local = datetime.fromtimestamp(now, _vendor_zone())
    midnight = (local + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight.timestamp()


def _alive(pid: int, started: float) -> bool:
    """Whether the process that wrote a row still runs (a process id may have been given anew)."""
    import psutil

    try:
        return abs(psutil.Process(pid).create_time() - started) < 1
    except psutil.Error:
        return False


class Ledger:
    """The record of requests sent. Thread-safe; any number of processes may share the file."""

    def __init__(self, path: Path, window: float = _MINUTE) -> None:
        import psutil

        self.window = window
        self.lock = threading.Lock()
        self.pid, self.started = os.getpid(), psutil.Process().create_time()
        self.db = sqlite3.connect(path, timeout=60, check_same_thread=False, isolation_level=None)
        self.db.execute("PRAGMA journal_mode=WAL")
        # A killed process loses nothing; a power cut may lose the last rows, and a minute of quota.
        self.db.execute("PRAGMA synchronous=NORMAL")
        self.db.executescript(_TABLES)
        self.bury_the_dead()

    def bury_the_dead(self) -> None:
        """Requests of killed processes end now: the server may have seen them until just before."""
        now = time.time()
        with self.lock, self.db:
            self.db.execute("BEGIN IMMEDIATE")
            self.db.execute("DELETE FROM calls WHERE done < ? AND cost IS NULL", (now - 3 * _DAY,))
            self.db.execute("DELETE FROM days WHERE day < ?", (now - 3 * _DAY,))
            self.db.execute("DELETE FROM pauses WHERE until < ?", (now,))
            open_rows = self.db.execute(
                "SELECT DISTINCT pid, started FROM calls WHERE done IS NULL"
            ).fetchall()
            for pid, started in open_rows:
                if not _alive(pid, started):
                    self.db.execute(
                        "UPDATE calls SET done = ? WHERE done IS NULL AND pid = ? AND started = ?",
                        (now, pid, started),
                    )

    def reserve(
        self, key: str, model: str, quota: Quota, tokens: int, cost: float, journal: str
    ) -> int | Wait:
        """Take a place in the window for a request of about `tokens` input tokens.

        Args:
            key: the key's id (never the key). cost: USD at most, kept until the answer is known.
            journal: which journal will hold the answer.
        Returns:
            the call's number, for `finish`; or how long to wait.
        """
        now = time.time()
        with self.lock, self.db:
            self.db.execute("BEGIN IMMEDIATE")
            wait = self.paused(key, model, now) or self.full(key, model, quota, tokens, now)
            if wait:
                return wait
            row = self.db.execute(
                "INSERT INTO calls (key, model, journal, pid, started, sent, tokens, cost)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (key, model, journal, self.pid, self.started, now, tokens, cost),
            )
            self.db.execute(
                "INSERT INTO days VALUES (?, ?, ?, 1) ON CONFLICT (key, model, day)"
                " DO UPDATE SET requests = requests + 1",
                (key, model, day_start(now)),
            )
            return int(row.lastrowid or 0)

    def paused(self, key: str, model: str, now: float) -> Wait | None:
        found = self.db.execute(
            "SELECT until, day FROM pauses WHERE key = ? AND model = ? AND until > ?"
            " ORDER BY until DESC LIMIT 1",
            (key, model, now),
        ).fetchone()
        return Wait(found[0], bool(found[1])) if found else None

    def full(self, key: str, model: str, quota: Quota, tokens: int, now: float) -> Wait | None:
        """The wait that the quotas demand, or None."""
        today = self.db.execute(
            "SELECT requests FROM days WHERE key = ? AND model = ? AND day = ?",
            (key, model, day_start(now)),
        ).fetchone()
        if today and today[0] >= quota.requests_per_day:
            return Wait(next_day(now), day=True)
        # Oldest first; those still on their way last, since their minute hasn't begun.
        busy = self.db.execute(
            "SELECT done, tokens FROM calls WHERE key = ? AND model = ?"
            " AND (done IS NULL OR done > ?) ORDER BY done IS NULL, done",
            (key, model, now - self.window),
        ).fetchall()
        requests_over = len(busy) + 1 - quota.requests_per_minute
        tokens_over = sum(row[1] for row in busy) + tokens - quota.tokens_per_minute
        if requests_over <= 0 and (tokens_over <= 0 or not busy):
            return None
        until = now
        for done, spent in busy:
            if requests_over <= 0 and tokens_over <= 0:
                break
            requests_over, tokens_over = requests_over - 1, tokens_over - spent
            until = now + 0.05 if done is None else done + self.window
        return Wait(until)

    def finish(self, call: int, tokens: int | None = None, *, known: bool = True) -> None:
        """The answer came, or won't: the request's minute begins.

        Args:
            tokens: input tokens by the vendor's count, if it told.
            known: what it cost is in the journal, or was nothing. Otherwise it counts as reserved.
        """
        with self.lock, self.db:
            self.db.execute(
                "UPDATE calls SET done = ?, tokens = COALESCE(?, tokens),"
                " cost = CASE WHEN ? THEN NULL ELSE cost END WHERE id = ?",
                (time.time(), tokens, known, call),
            )

    def pause(self, key: str, model: str, until: float, *, day: bool = False) -> None:
        """Don't use a key before `until`; a longer pause stays."""
        with self.lock, self.db:
            self.db.execute(
                "INSERT INTO pauses VALUES (?, ?, ?, ?) ON CONFLICT (key, model, day)"
                " DO UPDATE SET until = MAX(until, excluded.until)",
                (key, model, until, int(day)),
            )

    def forget_days(self) -> None:
        """Try keys again whose daily quota the vendor called spent."""
        with self.lock, self.db:
            self.db.execute("DELETE FROM pauses WHERE day = 1")

    def unaccounted(self, journal: str) -> float:
        """USD that requests without a known answer (in flight, killed, timed out) may have cost."""
        with self.lock:
            found = self.db.execute(
                "SELECT COALESCE(SUM(cost), 0) FROM calls WHERE journal = ? AND cost IS NOT NULL",
                (journal,),
            ).fetchone()
        return float(found[0])

    def close(self) -> None:
        self.db.close()
