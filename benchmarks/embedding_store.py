"""Memory to hold a store of vision outputs, at the size of the study's training pictures.

    python benchmarks/embedding_store.py                    # a thousand pictures: 0.9 GB
    python benchmarks/embedding_store.py --pictures 11821 --ways "in slices"    # 10.5 GB, float16

The file is sparse: it takes no room on the disk, and reads as zeros. Each way runs in a process of
its own; what counts is its anonymous memory at most (RssAnon of Linux), which the mapped file isn't
part of. Prints the ratio to the size of what is held.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from helpers.usage import AnonymousPeak

from abo_vqa.models.embeddings.store import EmbeddingStore
from abo_vqa.training import vision_cache

TOKENS, WIDTH = 577, 768  # BLIP-VQA-base


def write(folder: Path, count: int) -> None:
    """A store of `count` pictures without any data."""
    shape = (count, TOKENS, WIDTH)
    np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float16, shape)
    table = pd.DataFrame({"image_path": [f"{i}.jpg" for i in range(count)], "error": ""})
    table.to_csv(folder / "paths.csv", index=False)
    (folder / "meta.json").write_text(json.dumps({"dtype": "float16"}), encoding="utf-8")


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
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(Path(args.measure[0]), args.measure[1])
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
