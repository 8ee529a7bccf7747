"""`abo-vqa merge`: base weights and adapter as one checkpoint that needs no PEFT."""

from __future__ import annotations

import argparse
from pathlib import Path

from abo_vqa.core.paths import ADAPTER, MERGED


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options.

    Args:
        parser: the command's parser.
    """
    parser.add_argument("--adapter", type=Path, default=ADAPTER, help="(%(default)s)")
    parser.add_argument("--out", type=Path, default=MERGED, help="(%(default)s)")
    parser.add_argument(
        "--base", help="checkpoint to merge into (default: the base named by the adapter)"
    )


def command(args: argparse.Namespace) -> int:
    """Merge the adapter into its base.

    Args:
        args: the options.

    Returns:
        The exit code.
    """
    from abo_vqa.models.merging import merge_adapter  # only now: it loads torch

    print(f"merged weights in {merge_adapter(args.adapter, args.out, args.base)}")
    return 0
