"""Memory to hold a store of vision outputs, at the size of the study's training pictures.

    python benchmarks/embedding_store.py                    # a thousand pictures: 0.9 GB
    python benchmarks/embedding_store.py --pictures 11821 --ways "in slices"    # 10.5 GB, float16
    python benchmarks/embedding_store.py --shards 10 100    # reading at random: shards, one file

The file is sparse: it takes no room on the disk, and reads as zeros. Each way runs in a process of
its own; what counts is its anonymous memory at most (RssAnon of Linux), which the mapped file isn't
part of. Prints the ratio to the size of what is held.

With --shards: processor seconds to read batches of 32 random images from a thousand pictures in so
many files, and in one, in turns; the best of --repeat rounds counts. The files hold numbers, and
stay in the page cache.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from helpers.usage import AnonymousPeak

from abo_vqa.models.embeddings import files
from abo_vqa.models.embeddings.builder import EmbeddingBuilder
from abo_vqa.models.embeddings.publishing import publish_vectors
from abo_vqa.models.embeddings.store import EmbeddingStore, write_description
from abo_vqa.training import vision_cache

TOKENS, WIDTH = 577, 768  # BLIP-VQA-base


def write(folder: Path, count: int) -> None:
    """A store of `count` pictures without any data."""
    shape = (count, TOKENS, WIDTH)
    np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float16, shape)
    table = pd.DataFrame({"image_path": [f"{i}.jpg" for i in range(count)], "error": ""})
    table.to_csv(folder / "paths.csv", index=False)
    (folder / "meta.json").write_text(json.dumps({"dtype": "float16"}), encoding="utf-8")


def write_shards(folder: Path, count: int, shards: int) -> EmbeddingStore:
    """A store of `count` pictures with numbers in it, in so many files."""
    image_bytes = 2 * TOKENS * WIDTH
    files.SHARD_BYTES = -(-count // shards) * image_bytes
    work, out = folder / "work", folder / "out"
    work.mkdir(parents=True)
    builder = EmbeddingBuilder(work, (count, TOKENS, WIDTH), "float16", out)
    values = np.random.default_rng(0).normal(size=(TOKENS, WIDTH)).astype(np.float16)
    for start in range(0, count, 32):
        builder.add({i: values + i % 7 for i in range(start, min(count, start + 32))}, {})
    builder.finish()
    publish_vectors(builder.shards, "float16", builder.row_shape, out)
    write_description(out, [f"{i}.jpg" for i in range(count)], {}, {"dtype": "float16"})
    return EmbeddingStore.open(out)


def read_batches(store: EmbeddingStore, batches: int) -> tuple[float, int]:
    """Processor seconds to read random batches, and a sum that is the same for the same numbers."""
    paths, shuffled, total = list(store.index), random.Random(0), 0
    start = time.process_time()
    for _ in range(batches):
        got = store.get(shuffled.sample(paths, 32))
        total += int(got[0][0, 0].item() * 1000)
    return time.process_time() - start, total


def compare_reading(counts: list[int], pictures: int, batches: int, repeat: int) -> None:
    """Print what a picture takes from one file, and from each number of shards."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        stores = {n: write_shards(Path(folder) / str(n), pictures, n) for n in (1, *counts)}
        best = dict.fromkeys(stores, float("inf"))
        for _ in range(repeat):
            totals = set()
            for count, store in stores.items():
                seconds, total = read_batches(store, batches)
                best[count] = min(best[count], seconds)
                totals.add(total)
            assert len(totals) == 1, "shards hold other numbers"
    for count, seconds in best.items():
        print(
            f"{count} file{'s' * (count > 1)}: {1000 * seconds / (32 * batches):.3f} ms a picture, "
            f"{seconds / best[1]:.2f} times one file"
        )


def plain(store: EmbeddingStore, paths: list[str]) -> torch.Tensor:
    """All rows at once, which makes a copy of them on the way."""
    rows = store.rows(paths)
    order = np.argsort(rows)
    taken = torch.empty((len(rows), TOKENS, WIDTH), dtype=torch.float16)
    taken.numpy()[order] = store.vectors[rows[order]]
    return taken


def sliced(store: EmbeddingStore, paths: list[str]) -> torch.Tensor:
    """What training does."""
    vision_cache.MAX_MEMORY_FRACTION = 1.0
    outputs = vision_cache.cache_vision_outputs(store, paths, torch.device("cpu"))
    assert isinstance(outputs, vision_cache.VisionCache), "there is too little memory for it"
    return outputs.vectors


WAYS = {"all at once": plain, "in slices": sliced}


def measure(folder: Path, way: str) -> None:
    """Print the peak of memory beyond what the process had before."""
    store = EmbeddingStore.open(folder)
    with AnonymousPeak() as peak:
        held = WAYS[way](store, list(store.index))
    print(peak.bytes, held.nbytes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--shards", nargs="+", type=int, help="compare reading instead")
    parser.add_argument("--batches", type=int, default=50)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(Path(args.measure[0]), args.measure[1])
        return
    if args.shards:
        compare_reading(args.shards, args.pictures, args.batches, args.repeat)
        return
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), args.pictures)
        for way in args.ways:
            command = [sys.executable, __file__, "--measure", folder, way]
            process = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
            if process.returncode:
                print(f"{way}: ended with {process.returncode}: not enough memory")
                continue
            peak, size = map(int, process.stdout.split())
            print(f"{way}: {peak / 1e9:.2f} GB for {size / 1e9:.2f} GB: {peak / size:.2f} times")


if __name__ == "__main__":
    main()
