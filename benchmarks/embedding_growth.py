"""Memory and processor seconds of the stage `embed` by images, beside the model; and of its reader.

A model that answers at once with a vector of eight numbers, about images that nobody reads: what is
left is the stage itself, from the table of questions to the description of the store. Each size
runs in a process of its own; memory is what no file is behind (RssAnon of Linux), beyond what the
process has before it begins. Every image is asked about three times, as in the study.

    python benchmarks/embedding_growth.py [--images 250000 500000 1000000] [--ragged]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
from helpers.usage import AnonymousPeak

from abo_vqa.core.config import load_config
from abo_vqa.core.tables import TableWriter
from abo_vqa.models.embeddings import build
from abo_vqa.models.embeddings.builder import STORED_DTYPES
from abo_vqa.models.embeddings.encoding import EncodedBlock
from abo_vqa.models.embeddings.store import EmbeddingStore
from abo_vqa.models.embeddings.summary import embed_table

ROOT = Path(__file__).parents[1]
WIDTH, PIECE, LOOKUPS = 8, 100_000, 20_000


class AtOnce:
    """Encodes blocks of images without looking at them.

    Args:
        shape: of each image's vectors; None if images may differ in it.
        dtype: that they are stored in.
    """

    def __init__(self, shape: tuple[int, int] | None, dtype: str) -> None:
        self.shape, self.dtype = shape, STORED_DTYPES[dtype]

    def __call__(self, blocks: Sequence[list[str]]) -> Iterator[EncodedBlock]:
        matrix = np.ones((1, WIDTH), self.dtype)
        for position in range(len(blocks)):
            paths = blocks[position]
            vectors = dict.fromkeys(paths, matrix)
            texts = dict.fromkeys(paths, "" if self.shape else "one line")
            yield EncodedBlock(vectors, texts, {}, self.shape, 0)


class NoArchive:
    """Knows every image's size."""

    def __enter__(self) -> NoArchive:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def sizes(self, paths: Iterable[str]) -> list[int | None]:
        return [8_000 + len(path) for path in paths]


def write_questions(file: Path, images: int) -> None:
    """Three rows an image, in no order of the images."""
    with TableWriter(file) as writer:
        for start in range(0, images, PIECE):
            numbers = range(start, min(images, start + PIECE))
            ids = [n * 2_654_435_761 % 2**32 for n in numbers]
            paths = [f"{n & 255:02x}/{n:08x}.jpg" for n in ids for _ in range(3)]
            writer.write(pd.DataFrame({"image_path": paths, "question": "what is this?"}))


def write(folder: Path, *, ragged: bool) -> None:
    """Run the stage; print its processor seconds and peak of memory."""
    config = load_config(ROOT / "params.yaml")
    work = AtOnce(None if ragged else (1, WIDTH), config.embed.dtype)
    with (
        mock.patch.object(build, "BlockEncoder", return_value=work),
        mock.patch.object(build, "open_archive", return_value=NoArchive()),
        mock.patch.object(build, "scratch", return_value=folder / "scratch" / "embed" / "key"),
        AnonymousPeak() as peak,
    ):
        start = time.process_time()
        embed_table(config, "blip", folder / "vqa.csv", folder / "out")
        print(time.process_time() - start, peak.bytes)


def read(folder: Path) -> None:
    """Open the store and look images up; print seconds of one and peak of memory."""
    with AnonymousPeak() as peak:
        store = EmbeddingStore.open(folder / "out")
        paths = list(islice(store.index, 0, None, max(1, len(store.index) // LOOKUPS)))
        start = time.process_time()
        for place in range(0, len(paths), 32):
            store.rows(paths[place : place + 32])
        print((time.process_time() - start) / len(paths), peak.bytes)


def in_process(folder: str, mode: str, *more: str) -> tuple[float, float]:
    """Run a part in a process of its own; return the two numbers that it prints."""
    command = [sys.executable, __file__, "--part", mode, folder, *more]
    process = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    first, second = process.stdout.split()
    return float(first), float(second)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[250_000, 500_000, 1_000_000])
    parser.add_argument("--ragged", action="store_true", help="images differ in their tokens")
    parser.add_argument("--part", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        mode, folder = args.part[0], Path(args.part[1])
        write(folder, ragged=args.ragged) if mode == "write" else read(folder)
        return
    print("| images | CPU s | µs an image | peak MB | bytes an image | to read | µs a look-up |")
    print("|--:|--:|--:|--:|--:|--:|--:|", flush=True)
    for count in args.images:
        with tempfile.TemporaryDirectory() as folder:
            write_questions(Path(folder) / "vqa.csv", count)
            seconds, peak = in_process(folder, "write", *(["--ragged"] * args.ragged))
            lookup, held = in_process(folder, "read")
        print(
            f"| {count:,} | {seconds:.1f} | {1e6 * seconds / count:.1f} | {peak / 1e6:,.0f} "
            f"| {peak / count:.0f} | {held / count:.0f} | {1e6 * lookup:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
