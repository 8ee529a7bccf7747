"""`abo-vqa export`: the set as Parquet with its images, a data card, and Croissant metadata.

abo-vqa export                      # data/export, for datasets.load_dataset("data/export")
abo-vqa export --choices 4          # with four choices a question
"""

from __future__ import annotations

import argparse
from pathlib import Path

from abo_vqa.core.config import load_config
from abo_vqa.core.paths import EXPORT
from abo_vqa.data.columns import add_columns_option
from abo_vqa.reporting.publish.export import export


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options.

    Args:
        parser: the command's parser.
    """
    parser.add_argument("--out", type=Path, default=EXPORT, help="folder (default: %(default)s)")
    parser.add_argument(
        "--choices", type=int, metavar="K", help="add K choices per question, one of them correct"
    )
    add_columns_option(parser)


def command(args: argparse.Namespace) -> int:
    """Write the export, and print what it holds.

    Args:
        args: the options.

    Returns:
        The exit code.
    """
    print(export(load_config(), args.out, args.choices, args.columns))
    return 0
