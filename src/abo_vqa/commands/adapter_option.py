"""The option that names the fine-tuned model's adapter."""

from __future__ import annotations

import argparse
from pathlib import Path

from abo_vqa.core.paths import ADAPTER


def add_adapter_option(parser: argparse.ArgumentParser) -> None:
    """Add --adapter.

    Args:
        parser: the command's parser.
    """
    parser.add_argument(
        "--adapter",
        type=Path,
        default=ADAPTER,
        metavar="DIR",
        help="PEFT folder of `finetuned` (default: %(default)s)",
    )
