"""What dealing batches and journaling answers costs beside the model: time and memory by rows.

A worker that answers at once, so all that is left is the driver: the table of questions, the key of
the journal, batches of the rows, the journal (without waiting for the disk), and the table that is
made of it. Each size runs in a process of its own; memory is what no file is behind (RssAnon of
Linux), beyond what the process has before it begins.

    python benchmarks/answers.py [--rows 750000 1500000 3000000] [--batch-by question]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from helpers.usage import AnonymousPeak

from abo_vqa.core.fingerprints import fingerprint_pieces
from abo_vqa.core.tables import TableWriter, read_table, write_table
from abo_vqa.core.text_list import TextList
from abo_vqa.models.answering.journal import collect, rows_digest
from abo_vqa.models.answering.runner import AnsweredBatch, answer_rows
from abo_vqa.models.answering.sampling import sample_rows
from abo_vqa.models.answers import Answer

BATCH, PIECE = 64, 150_000


def at_once(batches: Sequence[list[int]]) -> Iterator[tuple[int, AnsweredBatch]]:
    """Answer batches as fast as can be."""
    for position, batch in enumerate(batches):
        yield position, AnsweredBatch([Answer(f"answer{i % 1000}", 0.5) for i in batch])


def write_questions(file: Path, count: int) -> None:
    """A table of three questions an image."""
    with TableWriter(file) as writer:
        for start in range(0, count, PIECE):
            numbers = range(start, min(count, start + PIECE))
            images = [n // 3 * 2_654_435_761 % 2**32 for n in numbers]
            table = {
                "image_path": [f"{n & 255:02x}/{n:08x}.jpg" for n in images],
                "question": [f"what is the colour of item {n % 50_000}?" for n in numbers],
                "answer": [f"answer{n % 1000}" for n in numbers],
            }
            writer.write(pd.DataFrame(table))


def measure(folder: Path, count: int, batch_by: str) -> None:
    """Print the figures of one number of rows."""
    os.fsync = lambda _handle: None  # the disk isn't what is measured
    start = time.process_time()
    with AnonymousPeak() as peak:
        questions = read_table(folder / "vqa.csv", columns=["image_path", "question", "answer"])
        rows = sample_rows(questions, 42, 1.0)
        asked, expected = questions.head(200).copy(), questions["answer"]  # what the stage keeps
        del questions
        rows_digest(rows)
        fingerprint_pieces(map(len, TextList.of(rows["image_path"]).pieces()))
        answer_rows(at_once, rows, batch_by, folder, BATCH)
        table = collect(rows, folder)
        write_table(table, folder / "predictions.csv")
    seconds = time.process_time() - start
    size = sum(file.stat().st_size for file in folder.glob("*.jsonl"))
    assert table is not None
    assert len(table) == len(expected) == count
    assert len(asked) == min(count, 200)
    print(
        f"| {count:,} | {seconds:.1f} | {count / seconds:,.0f} | {size / count:.0f} "
        f"| {peak.bytes / 1e6:,.0f} | {peak.bytes / count:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[750_000, 1_500_000, 3_000_000])
    parser.add_argument("--batch-by", choices=["image", "question"], default="image")
    parser.add_argument("--here", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.here:
        measure(args.here, args.rows[0], args.batch_by)
        return
    print("| rows | CPU s | rows per CPU s | bytes of the journal a row | peak MB | bytes a row |")
    print("|--:|--:|--:|--:|--:|--:|", flush=True)
    for count in args.rows:
        with tempfile.TemporaryDirectory() as folder:
            write_questions(Path(folder) / "vqa.csv", count)
            command = [sys.executable, __file__, "--here", folder, "--rows", str(count)]
            command += ["--batch-by", args.batch_by]
            subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
