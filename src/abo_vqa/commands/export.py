"""`abo-vqa export`: the set as Parquet with images and a data card, or in others' formats.

abo-vqa export                      # data/export, for datasets.load_dataset("data/export")
abo-vqa export --choices 4          # with four choices a question
abo-vqa export --format llava       # data/export-llava: conversations and a folder of images
"""

from __future__ import annotations

import argparse
from pathlib import Path

from abo_vqa.core.config import load_config
from abo_vqa.core.paths import EXPORT
from abo_vqa.data.columns import add_columns_option
from abo_vqa.reporting.export_format import EXPORT_FORMATS
from abo_vqa.reporting.publish.export import export


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options.

    Args:
        parser: the command's parser.
    """
    parser.add_argument(
        "--format",
        choices=EXPORT_FORMATS,
        default=EXPORT_FORMATS[0],
        help="parquet, which is ready for a hub; LLaVA's JSON; VLMEvalKit's TSV; a task for "
        "lmms-eval (default: %(default)s)",
    )
    parser.add_argument(
        "--out", type=Path, help=f"folder (default: {EXPORT}, or {EXPORT}-FORMAT for another one)"
    )
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
    usual = EXPORT if args.format == EXPORT_FORMATS[0] else Path(f"{EXPORT}-{args.format}")
    out = args.out or usual
    print(export(load_config(), out, args.choices, args.columns, args.format))
    return 0
