"""Large tables as a CSV and as a folder of Parquet: processor seconds, peak memory, size.

    python benchmarks/large_tables.py                  # 3,000,000 rows
    python benchmarks/large_tables.py --rows 300_000

Rows are made up like those of data/vqa.csv: an image's path, ids and hashes, a question, an answer.
Each measurement is a process of its own, imports included, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from abo_vqa.core import tables

PIECE = 1 << 16
NEEDED = ["image_path", "question", "answer"]
LAYOUTS = {"csv": "CSV", "parts": "Parquet parts"}


def made_up(rows: int) -> Iterator[pd.DataFrame]:
    """Rows in pieces: three questions an image."""
    rng = random.Random(0)
    kinds = [f"{rng.choice('abcdefgh')}{n:x} stand" for n in range(576)]
    for start in range(0, rows, PIECE):
        records = []
        for row in range(start, min(start + PIECE, rows)):
            image = row // 3
            digest = hashlib.sha1(str(image).encode()).hexdigest()
            kind = kinds[image % len(kinds)]
            records.append(
                {
                    "image_path": f"{digest[:2]}/{digest[:8]}.jpg",
                    "question": f"What is the colour of the {kind}, model {image % 997}?",
                    "answer": rng.choice(("red", "None", "wood", kind)),
                    "image_id": f"{digest[8:19]}L",
                    "item_id": f"B{image:09d}",
                    "product_type": kind,
                    "image_sha1": digest,
                    "phash": digest[20:36],
                    "question_kind": "colour",
                    "annotator": "offline",
                    "row_id": row,
                }
            )
        yield pd.DataFrame(records)


def write(path: Path, rows: int) -> None:
    """Write the table piece by piece."""
    with tables.TableWriter(path) as writer:
        for piece in made_up(rows):
            writer.write(piece)


ACTIONS = {
    "write": write,
    "read": lambda path, _: tables.read_table(path),
    "read 3 columns": lambda path, _: tables.read_table(path, columns=NEEDED),
    "piece by piece": lambda path, _: [None for _ in tables.iter_table(path)],
    "make the rows": lambda _, rows: [None for _ in made_up(rows)],
}


def measure(action: str, path: Path, rows: int, layout: str) -> tuple[float, float]:
    """Return processor seconds and peak MB of an action in a fresh process."""
    command = [sys.executable, __file__, "--rows", str(rows), "--one", action, str(path), layout]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    cpu, peak = json.loads(process.stdout)
    return cpu, peak


def one(action: str, path: Path, rows: int, layout: str) -> None:
    """Print the figures of this process."""
    tables.PARTITION_ROWS = 0 if layout == "parts" else sys.maxsize
    start = time.process_time()
    ACTIONS[action](path, rows)
    used = resource.getrusage(resource.RUSAGE_SELF)
    # Linux counts kilobytes, macOS bytes.
    peak = used.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    print(json.dumps([time.process_time() - start, peak]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=3_000_000, help="(%(default)s)")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        action, path, layout = args.one
        one(action, Path(path), args.rows, layout)
        return
    print(f"{args.rows:,} rows: processor seconds and peak MB")
    with tempfile.TemporaryDirectory() as folder:
        making, _ = measure("make the rows", Path(folder), args.rows, "csv")
        for layout, name in LAYOUTS.items():
            path = Path(folder) / f"{layout}.csv"
            for action in list(ACTIONS)[:-1]:
                cpu, peak = measure(action, path, args.rows, layout)
                cpu -= making if action == "write" else 0
                print(f"{name:14}{action:16}{cpu:8.1f} s{peak:8,.0f} MB")
            size = sum(file.stat().st_size for file in tables.table_files(path))
            print(f"{name:14}{'on the disk':16}{'':10}{size / 1e6:8,.0f} MB")


if __name__ == "__main__":
    main()
