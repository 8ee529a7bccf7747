"""Rebuild the embedded sample: archives, checkpoints, the remote they ship in (`make sample`).

PYTHONPATH=tools python -m sample [archives|models|ship|all]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

SEED = 7  # of the catalogue
TRAINING_SEED = 11  # of the pretraining pictures and the checkpoints


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Rebuild the embedded sample."
    parser.add_argument(
        "part",
        nargs="?",
        choices=("archives", "models", "ship", "all"),
        default="all",
        help="draw the archives, train the checkpoints, refill samples/dvc-remote, or all three",
    )
    parser.add_argument("--data", type=Path, default=Path("data/raw/sample"), metavar="FOLDER")
    parser.add_argument("--models", type=Path, default=Path("models/sample"), metavar="FOLDER")
    parser.add_argument("--workers", type=int, default=2, help="processes, one thread each")


def command(args: argparse.Namespace) -> int:
    if args.part in ("archives", "all"):
        from sample.archives import write_archives

        catalogue = write_archives(args.data, SEED, args.workers)
        lines = sum(map(len, catalogue.shards))
        print(f"{args.data}: {lines} listings, {len(catalogue.pictures)} pictures")
    if args.part in ("models", "all"):
        from sample.checkpoints import build

        build(args.models, TRAINING_SEED, args.workers)
        print(f"{args.models}: {size_of(args.models) / 1e6:.1f} MB")
    if args.part in ("ship", "all"):
        from sample.ship import FOLDER, ship

        files = ship()
        size = size_of(FOLDER) / 1e6
        print(f"{FOLDER}: {files} files, {size:.1f} MB; commit it with the .dvc files")
    return 0


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def main() -> int:
    parser = argparse.ArgumentParser(prog="sample")
    arguments(parser)
    return command(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
