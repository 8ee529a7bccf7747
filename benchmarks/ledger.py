"""Processor time to reserve quota, against reading the last minute's requests from the same table.

python benchmarks/ledger.py --requests 1000 20000
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from abo_vqa.remote.ledger import Ledger, Quota

ROUNDS = 100
QUOTA = Quota(10**9, 10**12, 10**9)


def milliseconds(function: Callable[[], object]) -> float:
    """Processor time of one call."""
    begun = time.process_time()
    for _ in range(ROUNDS):
        function()
    return (time.process_time() - begun) / ROUNDS * 1000


def compare(requests: int) -> None:
    """Print both times with this many requests in the last minute."""
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "calls.sqlite")
        now = time.time()
        ledger._db.executemany(
            "INSERT INTO calls (key, model, journal, pid, started, sent, done, tokens)"
            " VALUES ('k', 'm', 'j', 1, 1, ?1, ?1, 300)",
            [(now - 50 * i / requests,) for i in range(requests)],
        )
        plain = milliseconds(
            lambda: ledger._db.execute(
                "SELECT done, tokens FROM calls WHERE key = 'k' AND model = 'm' AND done > ?"
                " ORDER BY done",
                (now - 60,),
            ).fetchall()
        )
        ours = milliseconds(lambda: ledger.reserve("k", "m", QUOTA, 300, 0.0, "j"))
        ledger.close()
    print(f"{requests:,} requests: {ours:.2f} ms, reading {plain:.2f} ms, ratio {ours / plain:.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, nargs="+", default=[1000, 20_000])
    for number in parser.parse_args().requests:
        compare(number)
