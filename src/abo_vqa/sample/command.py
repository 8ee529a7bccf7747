"""`abo-vqa sample`: rebuild the embedded sample, archives first, then the checkpoints."""

from __future__ import annotations

import argparse
from pathlib import Path

SEED = 7


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("part", nargs="?", choices=("archives", "models", "all"), default="all")
    parser.add_argument("--data", type=Path, default=Path("data/raw/sample"))
    parser.add_argument("--models", type=Path, default=Path("models/sample"))


def command(args: argparse.Namespace) -> int:
    if args.part in ("archives", "all"):
        from abo_vqa.sample.archives import write_archives

        catalogue = write_archives(args.data, SEED)
        lines = sum(map(len, catalogue.shards))
        print(f"{args.data}: {lines} listings, {len(catalogue.pictures)} pictures")
    return 0
