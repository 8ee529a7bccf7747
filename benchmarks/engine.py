"""What `compute.engine: ray` costs and brings: the same work here, with one worker and with two.

The work is the stage `curate`'s: decoding and hashing JPEGs, single-threaded. The times include
starting a cluster, its workers and their imports, and ending it.

    python benchmarks/engine.py [--seconds 60]
"""

from __future__ import annotations

import argparse
import hashlib
import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from abo_vqa.core.config import Config, load_config
from abo_vqa.core.engine.local import LocalEngine
from abo_vqa.core.engine.opening import open_engine
from abo_vqa.core.engine.work import Engine
from abo_vqa.data.image_decoding import phash

BATCH = 256  # images; the stage deals 1,024


def jpeg(seed: int) -> bytes:
    """An image like ABO's small ones: 256 pixels, some 12 KB."""
    blocks = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(blocks).resize((256, 256), Image.Resampling.BICUBIC).save(file, "JPEG")
    return file.getvalue()


def hash_batch(first: int) -> list[str]:
    """Hash a batch of images, all made from few: making them isn't what is measured."""
    images = [jpeg(seed) for seed in range(4)]
    return [phash(images[i % 4], str(first + i), by_name=True) for i in range(BATCH)]


def seconds(engine: Callable[[], Engine], batches: range) -> tuple[float, str]:
    """Wall seconds of the work, from before the engine is opened, and a digest of its results."""
    start, digest = time.perf_counter(), hashlib.md5()
    with engine() as opened:
        for hashes in opened.map(hash_batch, batches):
            digest.update("".join(hashes).encode())
    return time.perf_counter() - start, digest.hexdigest()


@contextmanager
def here() -> Iterator[Engine]:
    yield LocalEngine()


def on_ray(workers: int) -> Config:
    config = load_config(Path(__file__).parents[1] / "params.yaml")
    compute = config.compute.model_copy(update={"engine": "ray", "workers": workers})
    return config.model_copy(update={"compute": compute, "threads": 1})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="of work in one process")
    args = parser.parse_args()
    hash_batch(0)  # imports what it needs
    trial = seconds(here, range(8))[0] / 8
    batches = range(max(2, round(args.seconds / trial)))
    local, expected = seconds(here, batches)
    print(f"{len(batches) * BATCH:,} images, {BATCH} at a time")
    print(f"local            {local:7.1f} s  {len(batches) * BATCH / local:7.0f} images/s")
    previous = local
    for workers in (1, 2):
        wall, digest = seconds(partial(open_engine, on_ray(workers)), batches)
        assert digest == expected, "other results"
        against = "of local" if workers == 1 else "times as fast as one worker"
        ratio = wall / local if workers == 1 else previous / wall
        print(f"ray, {workers} worker(s) {wall:7.1f} s  {ratio:7.2f} {against}")
        previous = wall


if __name__ == "__main__":
    main()
