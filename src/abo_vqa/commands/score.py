"""`abo-vqa score`: any table of answers and predictions → scores per row and metric, intervals."""

from __future__ import annotations

import argparse
from pathlib import Path

from abo_vqa.data.columns import add_columns_option

# `METRIC_CHOICES`, which takes seconds to import; a test compares them.
_METRICS = (
    "accuracy", "exact_match", "token_match", "f1", "word_overlap_f1", "meteor", "wup", "rouge1",
    "rougeL", "bleu", "bertscore_precision", "bertscore_recall", "bertscore_f1", "bartscore",
)  # fmt: skip


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options.

    Args:
        parser: the command's parser.
    """
    # Names of metrics are copied from here: a line break inside one would make it another.
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "file",
        type=Path,
        help="table (CSV, TSV, JSON Lines or Parquet) with right answers and predictions under any "
        "of their usual names; an error, a question and an image's path are used where present",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for scores and figures")
    parser.add_argument(
        "--metrics",
        help="comma-separated, of the list below (default: all but those with toy models)",
    )
    add_columns_option(parser)
    parser.epilog = "metrics:\n" + "\n".join(f"  {name}" for name in _METRICS)


def command(args: argparse.Namespace) -> int:
    """Score the table.

    Args:
        args: the options.

    Returns:
        The exit code.
    """
    from abo_vqa.commands.scoring import score  # only now: `--help` shouldn't wait for it

    return score(args)
