"""`abo-vqa tune`: a search over LoRA's settings with Optuna; trials are MLflow runs.

Each trial trains with the stage's own code on the same held-out rows; test rows are never touched.
A trial whose accuracy after an epoch is below the median of earlier trials is stopped. The study is
a SQLite file and a trial has the stage's checkpoints, so that a killed search goes on where it was.
"""

from __future__ import annotations

import argparse

from abo_vqa.core.config import load_config
from abo_vqa.core.errors import UserError
from abo_vqa.core.stage import pin_threads


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options.

    Args:
        parser: the command's parser.
    """
    parser.add_argument(
        "--trials",
        type=int,
        default=20,
        help="total number of trials, including those of earlier runs (default: %(default)s)",
    )


def command(args: argparse.Namespace) -> int:
    """Search, and print the best settings.

    Args:
        args: the options.

    Returns:
        The exit code.
    """
    if args.trials < 1:
        raise UserError(f"--trials: found {args.trials}; at least 1.")
    config = load_config()
    pin_threads(config.threads)
    # Only now: it loads torch, for which threads are pinned.
    from abo_vqa.training.search import dvc_command, search_hyperparameters

    accuracy, best, pruned = search_hyperparameters(config, args.trials)
    print(f"{args.trials} trials, {pruned} stopped early; best validation accuracy {accuracy:.3f}:")
    print(f"  {dvc_command(best)}")
    return 0
