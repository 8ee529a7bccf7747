"""Rebuild the embedded sample: archives, checkpoints, the remote they ship in (`make sample`).

PYTHONPATH=tools python -m sample [archives|models|ship|all]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from abo_vqa.core import system_errors
from abo_vqa.core.errors import AboVqaError, UserError

SEED = 7
"""The random state of the catalogue."""

TRAINING_SEED = 11
"""The random state of the pretraining images and the checkpoints."""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's options."""
    parser = argparse.ArgumentParser(prog="sample", description="Rebuild the embedded sample.")
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
    return parser


def rebuild(args: argparse.Namespace) -> None:
    """Rebuild the parts that were asked for.

    Args:
        args: the options.

    Raises:
        UserError: an option is wrong, or the current folder isn't the repository's root.
    """
    if args.workers < 1:
        raise UserError(f"--workers {args.workers}: at least 1.")
    if not Path("dvc.yaml").is_file():
        raise UserError(f"{Path.cwd()} isn't the repository's root: there is no dvc.yaml here.")
    if args.part in ("archives", "all"):
        from sample.archives import write_archives

        catalogue = write_archives(args.data, SEED, args.workers)
        lines = sum(map(len, catalogue.shards))
        print(f"{args.data}: {lines} listings, {len(catalogue.pictures)} pictures")
    if args.part in ("models", "all"):
        from sample.checkpoints import build

        build(args.models, TRAINING_SEED, args.workers)
        print(f"{args.models}: {_folder_size(args.models) / 1e6:.1f} MB")
    if args.part in ("ship", "all"):
        from sample.ship import FOLDER, ship

        files = ship()
        size = _folder_size(FOLDER) / 1e6
        print(f"{FOLDER}: {files} files, {size:.1f} MB; commit it with the .dvc files")


def _folder_size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def main(argv: list[str] | None = None) -> int:
    """Run the command; a user's mistake gets one message on stderr.

    Args:
        argv: the options; None for the process's own.

    Returns:
        the exit code.
    """
    args = build_parser().parse_args(argv)
    try:
        rebuild(args)
    except AboVqaError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        refused = system_errors.find_os_error(error)
        if refused is None:
            raise
        print(f"error: {system_errors.describe_system_error(refused)}", file=sys.stderr)
        return system_errors.exit_code(refused)
    return 0


if __name__ == "__main__":
    sys.exit(main())
