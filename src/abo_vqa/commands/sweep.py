"""`abo-vqa sweep`: all experiments of a search side by side, and which differences are real.

    abo-vqa sweep
    abo-vqa sweep --name 'rank-*' --rev main~1

Settings, metrics and scores are those that DVC keeps with each experiment; seconds are MLflow's.
Experiments with the same settings and other seeds are one row.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from abo_vqa.core.paths import SWEEP


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options.

    Args:
        parser: the command's parser.
    """
    parser.add_argument(
        "--rev",
        action="append",
        help="a commit, branch or tag whose experiments are shown (default: the one that is "
        "checked out); may be repeated",
    )
    parser.add_argument("--name", help="only experiments with such a name, e.g. 'rank-*'")
    parser.add_argument(
        "--trials",
        action="store_true",
        help="also the trials of `abo-vqa tune`, which have a validation accuracy only",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=SWEEP,
        help="folder for sweep.md, sweep.csv, differences.csv and sweep.png (default: %(default)s)",
    )


def command(args: argparse.Namespace) -> int:
    """Print the table and what it means; write it as Markdown, CSV and figure.

    Args:
        args: the options.

    Returns:
        The exit code.
    """
    from abo_vqa.commands.sweep_runs import show_sweep  # it loads DVC and MLflow: not for --help

    print(show_sweep(args.rev, args.name, args.out, trials=args.trials))
    return 0
