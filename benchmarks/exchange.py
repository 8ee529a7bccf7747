"""What an export costs in each format, what a kill in the middle loses, and reading it back.

    python benchmarks/exchange.py                                  # 100,000 rows, all formats
    python benchmarks/exchange.py --rows 20000 --formats llava

Each row is one of three questions about a JPEG of 256 x 256 pixels. Every export is a command of
its own; processor seconds are its own too, with the imports, and so is the peak memory. The plain
way reads and decodes each image once and writes nothing: less can't be done if unreadable
images are to be left out. The killed run is ended when half of the images are in its journal, and
"both" is what it and its successor took together, against one undisturbed run.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import psutil
from helpers.abo_shaped import image_ids, write_pictures
from helpers.real_size import photographs
from helpers.scratch import ROOT, environment
from PIL import Image

from abo_vqa.data.archive import open_archive
from abo_vqa.data.columns import read_columns
from abo_vqa.reporting.export_format import EXPORT_FORMATS

QUESTIONS = (
    ("What color is it?", ("red", "blue", "green", "white")),
    ("How many parts does it have?", ("1", "2", "3", "4")),
    ("Is it made of wood?", ("yes", "no")),
)
PHOTOGRAPHS = 200  # different ones; a comment makes each file another one


def write_project(folder: Path, rows: int) -> None:
    """A project whose set is split 80 to 20."""
    images = image_ids(-(-rows // len(QUESTIONS)), seed=0)
    shutil.copytree(ROOT / "conf", folder / "conf")
    shutil.copy(ROOT / "params.yaml", folder)
    raw = folder / "data/raw/sample"
    files = jpegs()
    write_pictures(raw, images, lambda _: next(files))
    shutil.copy(ROOT / "data/raw/sample/abo-listings.tar", raw)
    table = pd.DataFrame(
        [
            {"image_path": path, "question": question, "answer": answers[at % len(answers)]}
            for at, (_, path) in enumerate(images)
            for question, answers in QUESTIONS
        ][:rows]
    )
    table["row_id"] = range(rows)
    cut = len(QUESTIONS) * (len(images) * 4 // 5)
    table[:cut].to_csv(folder / "data/train.csv", index=False)
    table[cut:].to_csv(folder / "data/test.csv", index=False)
    for name in ("funnel", "generate", "audit"):
        shutil.copy(ROOT / "tests/support/tables" / f"{name}.json", folder / "data")


def jpegs() -> Iterator[bytes]:
    """JPEGs without end, no two alike."""
    base = []
    for image in photographs(PHOTOGRAPHS):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=85)
        base.append(buffer.getvalue())
    number = 0
    while True:
        data = base[number % len(base)]
        comment = b"\xff\xfe\x00\x0a" + number.to_bytes(8)
        yield data[:2] + comment + data[2:]
        number += 1


def plain(folder: Path) -> float:
    """Processor seconds for reading and decoding each image."""
    paths = pd.concat([pd.read_csv(folder / f"data/{n}.csv") for n in ("train", "test")])
    began = time.process_time()
    with open_archive(folder / "data/raw/sample") as archive:
        for path in paths["image_path"].unique():
            Image.open(io.BytesIO(archive.read(path))).load()
    return time.process_time() - began


def export(folder: Path, form: str, kill_at: int | None = None) -> tuple[float, int]:
    """Run the command, or kill it when so many images are in the journal.

    Returns:
        Its processor seconds, and the bytes that it held at most.
    """
    command = [sys.executable, "-m", "abo_vqa", "export", "--format", form, "--out", "out"]
    process = subprocess.Popen(
        command, cwd=folder, env=environment(OMP_NUM_THREADS="1"), stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    watched, seconds, memory = psutil.Process(process.pid), 0.0, 0
    while process.poll() is None:
        try:
            times, held = watched.cpu_times(), watched.memory_info().rss
        except psutil.NoSuchProcess:
            break
        seconds, memory = max(seconds, times.user + times.system), max(memory, held)
        if kill_at is not None and journaled(folder) >= kill_at:
            os.kill(process.pid, signal.SIGKILL)
        time.sleep(0.1)
    status = process.wait()
    if status != (0 if kill_at is None else -signal.SIGKILL):
        raise RuntimeError(f"{' '.join(command)} ended with {status}")
    return seconds, memory


def journaled(folder: Path) -> int:
    try:
        text = (folder / ".out.partial/progress.json").read_text()
    except FileNotFoundError:
        return 0
    return sum(position["done"] for position in json.loads(text)["positions"].values())


def read_back(folder: Path, form: str, rows: int) -> float:
    """Processor seconds for reading the export's tables; checks that nothing is lost."""
    patterns = {"llava": "t*.json", "vlmeval": "*.tsv"}
    files = sorted((folder / "out").rglob(patterns.get(form, "*.parquet")))
    began = time.process_time()
    count = sum(
        len(read_columns(path, ("image_path", "question", "answer")).frame) for path in files
    )
    seconds = time.process_time() - began
    if count != rows:
        raise RuntimeError(f"{form}: {count:,} rows read back, not {rows:,}")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--formats", nargs="+", choices=EXPORT_FORMATS, default=EXPORT_FORMATS)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="exchange-") as name:
        folder = Path(name)
        write_project(folder, args.rows)
        images, floor = -(-args.rows // len(QUESTIONS)), plain(folder)
        print(f"{args.rows:,} rows, {images:,} images; the plain way: {floor:.1f} s of processor")
        print(f"{'format':10} {'s':>7} {'/ plain':>8} {'rows/s':>8} {'peak MiB':>9} "
              f"{'both / one':>11} {'back, rows/s':>13}")  # fmt: skip
        for form in args.formats:
            one, memory = export(folder, form)
            back = read_back(folder, form, args.rows)
            shutil.rmtree(folder / "out")
            both = export(folder, form, images // 2)[0] + export(folder, form)[0]
            shutil.rmtree(folder / "out")
            print(f"{form:10} {one:7.1f} {one / floor:7.2f}x {args.rows / one:8,.0f} "
                  f"{memory / 2**20:9,.0f} {both / one:10.2f}x {args.rows / back:13,.0f}",
                  flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
