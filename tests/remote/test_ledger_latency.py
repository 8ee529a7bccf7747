"""The ledger against a simulated service: no quota is exceeded, and little of it is left unused."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from abo_vqa.remote import ledger as ledger_module
from abo_vqa.remote.ledger import Ledger, Quota, QuotaDelay

MINUTE = 60.0
Latency = Callable[[random.Random, float], tuple[float, float]]  # seconds until seen, and answered


class Clock:
    """The ledger's clock, put forward by the simulation."""

    def __init__(self) -> None:
        self.now = 1_790_000_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(ledger_module, "time", clock)
    return clock


def simulate(
    path: Path, clock: Clock, quota: Quota, latency: Latency, *, minutes: int, tokens: int = 1
) -> list[float]:
    """Send whenever the ledger allows it; return when the service saw the requests, in order."""
    ledger, dice, begun = Ledger(path / "calls.sqlite"), random.Random(1), clock.now
    seen: list[float] = []
    on_their_way: list[tuple[float, int, float]] = []
    while clock.now < begun + minutes * MINUTE:
        result = ledger.reserve("k", "m", quota, tokens, 0.0, "j")
        until = clock.now
        if isinstance(result, QuotaDelay):
            until = max(result.until, clock.now + 0.01)
        else:
            arrival, reply = latency(dice, clock.now - begun)
            seen.append(clock.now + arrival)
            heapq.heappush(on_their_way, (clock.now + reply, result, clock.now))
        while on_their_way and on_their_way[0][0] <= until:
            clock.now, call, sent = heapq.heappop(on_their_way)
            ledger.finish(call, sent=sent)
        clock.now = max(clock.now, until)
    ledger.close()
    return sorted(seen)


def most_in_a_minute(times: list[float]) -> int:
    return max(sum(t <= other < t + MINUTE for other in times[i:]) for i, t in enumerate(times))


def share_used(times: list[float], quota: int) -> float:
    """The share of a quota that is used once the latency is known: from the third minute on."""
    times = [moment for moment in times if moment > times[0] + 2 * MINUTE]
    last = (len(times) - 1) // quota * quota
    return last / quota * MINUTE / (times[last] - times[0])


def steady(seconds: float) -> Latency:
    return lambda dice, _: (dice.uniform(0, 0.3), seconds)


def reasoning(dice: random.Random, _: float) -> tuple[float, float]:
    """A model whose replies take from 5 to 30 s."""
    return dice.uniform(0, 0.3), dice.uniform(5, 30)


@pytest.mark.parametrize("quota", [15, 40])
@pytest.mark.parametrize(
    "latency", [steady(0.8), steady(5), steady(10), steady(90), reasoning],
    ids=["0.8 s", "5 s", "10 s", "90 s", "5 to 30 s"],
)  # fmt: skip
def test_95_percent_of_a_quota_whatever_the_latency(
    tmp_path: Path, clock: Clock, latency: Latency, quota: int
) -> None:
    seen = simulate(tmp_path, clock, Quota(quota, 10**9, 10**9), latency, minutes=12)
    assert most_in_a_minute(seen) <= quota
    assert share_used(seen, quota) >= 0.95


def test_95_percent_of_a_token_quota(tmp_path: Path, clock: Clock) -> None:
    quota = Quota(10**9, 15 * 1324, 10**9)
    seen = simulate(tmp_path, clock, quota, steady(10), minutes=12, tokens=1324)
    assert most_in_a_minute(seen) <= 15
    assert share_used(seen, 15) >= 0.95


@pytest.mark.parametrize("before", [5, 2 * MINUTE, 10 * MINUTE])
@pytest.mark.parametrize("usual", [0.8, 10.0])
def test_an_outage_in_which_requests_are_stuck_on_their_way(
    tmp_path: Path, clock: Clock, usual: float, before: float
) -> None:
    """They arrive together, when the network is back; their minute begins then.

    Likewise the first request of a run, whose SDK and connection are set up meanwhile.
    """

    def latency(dice: random.Random, at: float) -> tuple[float, float]:
        stuck = max(0.0, before + 40 - at) if at >= before - 5 else 0.0
        arrival = stuck + dice.uniform(0, 0.3)
        return arrival, arrival + usual

    seen = simulate(tmp_path, clock, Quota(15, 10**9, 10**9), latency, minutes=15)
    assert most_in_a_minute(seen) <= 15


def test_a_request_that_failed_counts_from_its_end(tmp_path: Path, clock: Clock) -> None:
    """Nobody knows when the server saw it."""
    ledger, quota = Ledger(tmp_path / "calls.sqlite"), Quota(2, 10**9, 10**9)
    for number in range(2):  # 30 s are as usual
        call = ledger.reserve(f"other {number}", "m", quota, 1, 0.0, "j")
        assert isinstance(call, int)
        ledger.finish(call, sent=clock.now - 30)
    failed, answered = (ledger.reserve("k", "m", quota, 1, 0.0, "j") for _ in range(2))
    assert isinstance(failed, int)
    assert isinstance(answered, int)
    sent = clock.now
    clock.now += 30
    ledger.finish(failed)
    ledger.finish(answered, sent=sent)
    clock.now = sent + 62.1
    assert isinstance(ledger.reserve("k", "m", quota, 1, 0.0, "j"), int)
    assert ledger.reserve("k", "m", quota, 1, 0.0, "j") == QuotaDelay(
        sent + 90, quota="requests_per_minute"
    )
