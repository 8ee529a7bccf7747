from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from abo_vqa.remote.ledger import Ledger, Quota, QuotaDelay, day_start, next_day

PLENTY = Quota(1000, 10**9, 10**9)
WINDOW = 0.6


def most_in_window(times: list[float], window: float) -> int:
    times = sorted(times)
    return max(sum(t <= other < t + window for other in times) for t in times)


def reserve(ledger: Ledger, quota: Quota, tokens: int = 1, key: str = "k") -> int | QuotaDelay:
    return ledger.reserve(key, "m", quota, tokens, 0.25, "j")


def test_never_more_than_the_quota_in_any_window(tmp_path: Path) -> None:
    """Eight threads, answers that take random times; a request arrives anywhere in between."""
    import random

    window = WINDOW / 2
    ledger = Ledger(tmp_path / "calls.sqlite", window)
    quota, arrived, lock = Quota(10, 10**9, 10**9), [], threading.Lock()

    def work(seed: int) -> None:
        dice = random.Random(seed)
        until = time.monotonic() + 1.8
        while time.monotonic() < until:
            found = reserve(ledger, quota)
            if isinstance(found, QuotaDelay):
                time.sleep(max(0.001, min(0.02, found.until - time.time())))
                continue
            time.sleep(dice.uniform(0, 0.05))
            with lock:
                arrived.append(time.monotonic())
            time.sleep(dice.uniform(0, 0.05))
            ledger.finish(found)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ledger.close()
    assert most_in_window(arrived, window) <= 10
    assert len(arrived) >= 20  # and it does use it


def test_the_window_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "calls.sqlite"
    code = (
        "import sys, os, signal; from pathlib import Path;"
        "from abo_vqa.remote.ledger import Ledger, Quota;"
        "ledger = Ledger(Path(sys.argv[1]), 60);"
        "[ledger.reserve('k', 'm', Quota(15, 10**9, 10**9), 1, 0.25, 'j') for _ in range(9)];"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    ledger = Ledger(path, 60)
    quota = Quota(15, 10**9, 10**9)
    granted = [reserve(ledger, quota) for _ in range(8)]
    assert [isinstance(found, int) for found in granted] == [True] * 6 + [False] * 2
    # Nobody knows when the server saw the killed process's requests: until now, at the latest.
    delay = granted[-1]
    assert isinstance(delay, QuotaDelay)
    assert 55 < delay.until - time.time() <= 60
    assert ledger.reserved_cost("j") == pytest.approx(15 * 0.25)
    ledger.close()


def test_two_processes_share_a_window(tmp_path: Path) -> None:
    one, two = (Ledger(tmp_path / "calls.sqlite", 60) for _ in range(2))
    quota = Quota(4, 10**9, 10**9)
    found = [reserve(ledger, quota) for ledger in (one, two, one, two, one, two)]
    assert [isinstance(f, int) for f in found] == [True] * 4 + [False] * 2
    assert isinstance(reserve(one, quota, key="other"), int)


def test_tokens_have_a_window_too(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "calls.sqlite", WINDOW)
    quota = Quota(100, 1000, 10**9)
    first = reserve(ledger, quota, tokens=600)
    assert isinstance(first, int)
    assert isinstance(reserve(ledger, quota, tokens=600), QuotaDelay)
    ledger.finish(first, tokens=300)  # fewer than estimated
    second = reserve(ledger, quota, tokens=600)
    assert isinstance(second, int)
    ledger.finish(second, 600)
    delay = reserve(ledger, quota, tokens=600)
    assert isinstance(delay, QuotaDelay)
    time.sleep(max(0, delay.until - time.time()) + 0.01)
    assert isinstance(reserve(ledger, quota, tokens=600), int)


def test_a_request_larger_than_the_quota_goes_alone(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "calls.sqlite", WINDOW)
    assert isinstance(reserve(ledger, Quota(10, 100, 10**9), tokens=500), int)


def test_requests_a_day(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "calls.sqlite", 0.01)
    quota = Quota(100, 10**9, 3)
    for _ in range(3):
        assert isinstance(reserve(ledger, quota), int)
    ledger.close()
    delay = reserve(Ledger(tmp_path / "calls.sqlite", 0.01), quota)
    assert isinstance(delay, QuotaDelay)
    assert delay.day
    assert delay.until == next_day(time.time())


def test_pauses(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "calls.sqlite", WINDOW)
    now = time.time()
    ledger.pause("k", "m", now + 30)
    ledger.pause("k", "m", now + 10)  # the longer one stays
    assert reserve(ledger, PLENTY) == QuotaDelay(now + 30)
    assert isinstance(reserve(ledger, PLENTY, key="other"), int)
    ledger.pause("k", "m", now + 5000, day=True)
    assert reserve(Ledger(tmp_path / "calls.sqlite"), PLENTY) == QuotaDelay(now + 5000, day=True)
    ledger.clear_daily_pauses()
    assert reserve(ledger, PLENTY) == QuotaDelay(now + 30)


def test_cost_that_nobody_knows(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "calls.sqlite", WINDOW)
    known, unknown, flying = (reserve(ledger, PLENTY) for _ in range(3))
    assert isinstance(known, int)
    assert isinstance(unknown, int)
    ledger.finish(known)
    ledger.finish(unknown, cost_known=False)
    assert isinstance(flying, int)
    assert ledger.reserved_cost("j") == pytest.approx(0.5)
    assert ledger.reserved_cost("another journal") == 0


@pytest.mark.parametrize(
    ("moment", "start", "end"),
    [
        ("2025-01-15 12:00", "2025-01-15 08:00", "2025-01-16 08:00"),  # winter: UTC-8
        ("2025-07-15 06:59", "2025-07-14 07:00", "2025-07-15 07:00"),  # summer: UTC-7
        ("2025-03-09 20:00", "2025-03-09 08:00", "2025-03-10 07:00"),  # 23 hours long
    ],
)
def test_the_vendors_day(moment: str, start: str, end: str) -> None:
    def stamp(text: str) -> float:
        return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()

    assert day_start(stamp(moment)) == stamp(start)
    assert next_day(stamp(moment)) == stamp(end)


def test_other_vendors_days_are_those_of_utc(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    quota = Quota(100, 10**9, 1, "UTC")
    assert isinstance(reserve(ledger, quota), int)
    delay = reserve(ledger, quota)
    assert isinstance(delay, QuotaDelay)
    back = datetime.fromtimestamp(delay.until, UTC)
    assert (back.hour, back.minute, back.second) == (0, 0, 0)
    assert 0 < delay.until - time.time() <= 86_400


def test_speed(tmp_path: Path) -> None:
    """Reserving takes well under a millisecond with a minute's thousand requests in the window."""
    ledger = Ledger(tmp_path / "calls.sqlite", 60)
    begun = time.process_time()
    for _ in range(1000):
        call = reserve(ledger, Quota(2000, 10**9, 10**9))
        assert isinstance(call, int)
        ledger.finish(call)
    assert time.process_time() - begun < 5
    assert os.path.getsize(tmp_path / "calls.sqlite") < 2**22  # noqa: PTH202


def fill(ledger: Ledger, done: list[float | None], cost: float | None = None) -> None:
    """Requests of 300 tokens, by when they ended."""
    rows = [(time.time(), moment, cost) for moment in done]
    ledger._db.executemany(
        "INSERT INTO calls (key, model, journal, pid, started, sent, done, tokens, cost)"
        " VALUES ('k', 'm', 'j', 1, 1, ?, ?, 300, ?)",
        rows,
    )


def test_speed_with_twenty_thousand_requests_a_minute(tmp_path: Path) -> None:
    """Several times faster than reading them, which is what it would take to add them up here."""
    ledger = Ledger(tmp_path / "calls.sqlite", 60)
    now = time.time()
    fill(ledger, [now - i / 1000 for i in range(20_000)])
    quota = Quota(100_000, 10**9, 10**9)
    begun = time.process_time()
    for _ in range(20):
        ledger._db.execute(
            "SELECT done, tokens FROM calls WHERE key = 'k' AND model = 'm'"
            " AND (done IS NULL OR done > 0) ORDER BY done IS NULL, done"
        ).fetchall()
    reading = time.process_time() - begun
    begun = time.process_time()
    for _ in range(20):
        assert isinstance(reserve(ledger, quota), int)
    assert time.process_time() - begun < reading / 2


@pytest.mark.parametrize(
    ("requests", "tokens", "expected"),
    [
        (3, 10**9, 0.05),  # one of those on their way has to end, and nobody knows when
        (4, 10**9, 0.05),
        (5, 10**9, 40.0),  # the two that have ended
        (6, 10**9, 10.0),  # the older of them
        (7, 10**9, None),
        (100, 1300, 0.05),
        (100, 1600, 40.0),
        (100, 1900, 10.0),
        (100, 2100, None),
    ],
)
def test_how_long_to_wait(
    tmp_path: Path, requests: int, tokens: int, expected: float | None
) -> None:
    ledger = Ledger(tmp_path / "calls.sqlite", 60)
    now = time.time()
    fill(ledger, [now - 20, None, None, now - 50, None, None, now - 70])
    result = reserve(ledger, Quota(requests, tokens, 10**9), tokens=300)
    if expected is None:
        assert isinstance(result, int)
    else:
        assert isinstance(result, QuotaDelay)
        assert result.until - now == pytest.approx(expected, abs=2 if expected > 1 else 0.04)


def test_a_request_larger_than_the_quota_waits_for_all_others(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "calls.sqlite", 60)
    fill(ledger, [time.time() - 20])
    delay = reserve(ledger, Quota(10, 100, 10**9), tokens=500)
    assert isinstance(delay, QuotaDelay)
    assert 38 < delay.until - time.time() <= 40


def test_old_requests_are_forgotten_unless_they_may_have_cost_something(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "calls.sqlite", 60)
    old = time.time() - 4 * 86_400
    for cost in (None, 0.0, 0.25):  # answered, failed at a free server, failed at another
        fill(ledger, [old], cost)
    ledger.close()
    ledger = Ledger(tmp_path / "calls.sqlite", 60)
    assert ledger._db.execute("SELECT cost FROM calls").fetchall() == [(0.25,)]
