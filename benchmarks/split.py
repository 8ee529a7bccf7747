"""Near-duplicates left in train, size and type balance of the default split, and its cost.

    python benchmarks/split.py --rows 3000000                  # the stage, at a quarter, half, all
    python benchmarks/split.py ../shared/real/hashes.csv       # image_path, image_sha1, phash
    python benchmarks/split.py ../shared/real/hashes.csv --sizes 76000 --distances 4 --seeds 1

Without a path, and for more pictures than the file has: synthetic hashes, copies with up to four
flipped bits and random ones. "one type": the largest component is a product type of its own, so
that it must be cut to keep its share. Processor seconds of the split, and of its audit; the peak
memory is the whole run's. --rows measures the stage as a whole, reading and writing included, on
made-up tables (helpers/large_catalogue.py) of three rows an image, as folders of Parquet at every
size; each in a process of its own, imports included.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
from helpers.large_catalogue import catalogue_hashes, write_questions
from scipy.sparse.csgraph import connected_components

from abo_vqa.core import tables
from abo_vqa.core.paths import AUDIT, VQA
from abo_vqa.core.tables import read_table
from abo_vqa.data.audit import audit_split
from abo_vqa.data.hashes import hash_graph
from abo_vqa.data.similarity_rule import SimilarityRule
from abo_vqa.data.splitting import split_rows


def filled_up(known: list[int], n: int, rng: np.random.RandomState) -> list[int]:
    """Hashes, with copies of up to four flipped bits (three of four) and random ones added."""
    made = list(known)
    while len(made) < n:
        bits = int.from_bytes(rng.bytes(8), "big")
        if made and rng.rand() < 0.75:
            bits = made[rng.randint(len(made))]
            for bit in rng.randint(0, 64, size=rng.randint(0, 5)):
                bits ^= 1 << int(bit)
        made.append(bits)
    return made


def sample(known: list[int], n: int, seed: int) -> pd.DataFrame:
    rng = np.random.RandomState(seed)
    bits = filled_up(known, n, rng)
    drawn = [bits[i] for i in rng.permutation(len(bits))[:n]]
    columns = {"image_path": [f"{i:06d}.jpg" for i in range(n)], "question": "?", "answer": "a"}
    unknown = {"item_id": "", "image_sha1": ""}
    return pd.DataFrame({**columns, **unknown, "phash": [f"{b:016x}" for b in drawn]}, dtype=object)


def largest_component(table: pd.DataFrame, distance: int) -> np.ndarray:
    graph = hash_graph(table["phash"], distance)
    component = connected_components(graph.adjacency, directed=False)[1][graph.nodes]
    return component == np.bincount(component).argmax()


def print_stage(rows: int) -> None:
    """Processor seconds and peak memory of the stage at three sizes."""
    print("| rows | images | distinct hashes | groups | CPU s | to the smallest, per row | "
          "peak memory, GB |\n|---|---|---|---|---|---|---|")  # fmt: skip
    smallest = 0.0
    for size in (rows // 4, rows // 2, rows):
        with TemporaryDirectory() as folder:
            images = size // 3
            in_parts(write_questions, Path(folder) / VQA, size, images)
            report = run_alone(Path(folder))
        spent, peak, groups = report["seconds"], report["peak"], report["groups"]
        smallest = smallest or spent / size
        distinct = len(np.unique(catalogue_hashes(images)))
        print(f"| {size:,} | {images:,} | {distinct:,} | {groups:,} | {spent:.1f} | "
              f"{spent / size / smallest:.2f} | {peak / 1e9:.2f} |", flush=True)  # fmt: skip


def in_parts(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function for which tables of any size are folders of Parquet."""
    with patch.object(tables, "PARTITION_ROWS", 0):
        return function(*args)


def run_alone(folder: Path) -> dict[str, Any]:
    """Run the stage in a process of its own, in a folder with its input."""
    command = [sys.executable, __file__, "--stage", str(folder)]
    return dict(json.loads(subprocess.check_output(command).splitlines()[-1]))


def run_stage(folder: Path) -> None:
    """Run the stage in a folder, and print what it took as JSON."""
    from abo_vqa.core.config import load_config
    from abo_vqa.core.stage import pin_threads
    from abo_vqa.stages import split

    config = load_config()
    pin_threads(config.threads)
    os.chdir(folder)
    in_parts(split.run, config)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    audit = json.loads(AUDIT.read_text(encoding="utf-8"))
    print(json.dumps({
        "seconds": usage.ru_utime + usage.ru_stime, "peak": 1024 * usage.ru_maxrss,
        "groups": audit["groups"]["count"],
    }))  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("hashes", type=Path, nargs="?", help="table with a column phash")
    parser.add_argument("--sizes", type=int, nargs="+", default=[5000, 14798, 40000])
    parser.add_argument("--distances", type=int, nargs="+", default=[2, 4, 6])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, help="measure the stage with so many made-up rows")
    parser.add_argument("--stage", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.stage:
        run_stage(args.stage)
        return
    if args.rows:
        print_stage(args.rows)
        return
    known = []
    if args.hashes:
        known = [int(value, 16) for value in read_table(args.hashes, ["phash"])["phash"]]
    print(
        "| pictures | bits | largest component | largest group | test share | left over | "
        "left over, one type | types differ by | CPU s split, audit |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for n in args.sizes:
        for distance in args.distances:
            rows = [measured(sample(known, n, seed), distance) for seed in range(args.seeds)]
            print(f"| {n:,} | {distance} | " + " | ".join(cells(rows)) + " |", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"peak memory {peak / 1e6:.2f} GB")


def measured(table: pd.DataFrame, distance: int) -> list[float]:
    largest = largest_component(table, distance)
    typed = table.assign(product_type=np.where(largest, "largest", "other").astype(object))
    found, spent = [], []
    for which in (table, typed):
        start = time.process_time()
        sides = split_rows(
            which, "near-duplicate", 0.2, 42, rule=SimilarityRule(distance), stratify=True
        )
        spent.append(time.process_time() - start)
        start = time.process_time()
        train, test = (which.iloc[rows] for rows in sides)
        found.append(audit_split(train, test, "near-duplicate", SimilarityRule(distance)))
        spent.append(time.process_time() - start)
    plain, cut = found
    share = plain["rows"]["test"] / len(table)
    return [
        largest.mean(), plain["groups"]["largest_images"], share, plain["near_duplicates"]["share"],
        cut["near_duplicates"]["share"], cut["types"]["largest_difference"], max(spent[::2]),
        max(spent[1::2]),
    ]  # fmt: skip


def cells(rows: list[list[float]]) -> list[str]:
    """The worst (for the test share: the lowest) of the samples."""
    component, group, _, left, cut, types, split, audited = np.max(rows, axis=0)
    share = np.min(rows, axis=0)[2]
    shares = [f"{value:.1%}" for value in (share, left, cut)]
    return [
        f"{component:.0%}",
        f"{group:.0f}",
        *shares,
        f"{types:.4f}",
        f"{split:.0f}, {audited:.0f}",
    ]


if __name__ == "__main__":
    main()
