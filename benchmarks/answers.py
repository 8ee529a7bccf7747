"""What dealing batches and journaling answers costs beside the model: time and memory by rows.

A worker that answers at once, so all that is left is the driver: batches of the rows, the journal
(without waiting for the disk), and the table that is made of it.

    python benchmarks/answers.py [--rows 750000 3000000]
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from abo_vqa.models.answering.journal import collect
from abo_vqa.models.answering.runner import AnsweredBatch, answer_rows
from abo_vqa.models.answering.sampling import sample_rows
from abo_vqa.models.answers import Answer

BATCH = 64


def at_once(batches: Sequence[list[int]]) -> Iterator[tuple[int, AnsweredBatch]]:
    """Answer batches as fast as can be."""
    for position, batch in enumerate(batches):
        yield position, AnsweredBatch([Answer(f"answer{i % 1000}", 0.5) for i in batch])


def measure(count: int) -> None:
    """Print the figures of one number of rows."""
    paths = [f"{i % 256:02x}/{i // 3:08x}.jpg" for i in range(count)]
    questions = [f"what is the colour of item {i % 50_000}?" for i in range(count)]
    rows = sample_rows(pd.DataFrame({"image_path": paths, "question": questions}), 42, 1.0)
    del paths, questions
    os.fsync = lambda _handle: None  # the disk isn't what is measured
    with tempfile.TemporaryDirectory() as name:
        start, folder = time.process_time(), Path(name)
        answer_rows(at_once, rows, "image", folder, BATCH)
        table = collect(rows, folder)
        seconds = time.process_time() - start
        size = sum(file.stat().st_size for file in folder.iterdir())
    assert table is not None
    assert len(table) == count
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(
        f"| {count:,} | {seconds:.1f} | {count / seconds:,.0f} | {size / count:.0f} "
        f"| {memory / 1e9:.2f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[750_000, 3_000_000])
    parser.add_argument("--here", action="store_true", help="in this process")
    args = parser.parse_args()
    if args.here:
        measure(args.rows[0])
        return
    print("| rows | CPU s | rows per CPU s | bytes of the journal a row | peak memory, GB |")
    print("|--:|--:|--:|--:|--:|", flush=True)
    for count in args.rows:
        command = [sys.executable, __file__, "--here", "--rows", str(count)]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
