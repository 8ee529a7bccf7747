"""`abo-vqa seeds`: the same settings trained with several seeds: mean, deviation, interval.

    abo-vqa seeds --n 5
    abo-vqa seeds --n 5 -S lora.r=8

Each seed is an experiment of DVC, called `seeds-<key>-<seed>`, that runs in a temporary copy of the
workspace. The key stands for the commit and the settings, so that the same command continues where
it was stopped, and `--n 10` adds to what `--n 5` did. Only training changes (`lora.seed`): the
split, the baselines and the test rows are the same for all.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from abo_vqa.core.errors import UserError
from abo_vqa.core.paths import SEEDS


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options.

    Args:
        parser: the command's parser.
    """
    parser.add_argument(
        "--n", type=int, default=5, help="total number of seeds, from 1 on (default: %(default)s)"
    )
    parser.add_argument(
        "-S",
        "--set-param",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting that differs from params.yaml, as in `dvc exp run`; may be repeated",
    )
    parser.add_argument(
        "--queue-only",
        action="store_true",
        help="put the seeds into DVC's queue; after `dvc queue start --jobs 2`, this command "
        "without the option reports them",
    )
    parser.add_argument(
        "--out", type=Path, default=SEEDS, help="folder of table and figure (default: %(default)s)"
    )


def command(args: argparse.Namespace) -> int:
    """Train what is missing, and report the seeds that are there.

    Args:
        args: the options.

    Returns:
        The exit code.
    """
    if args.n < 2:
        raise UserError(f"--n: found {args.n}; at least 2, since one seed has no deviation.")
    from abo_vqa.commands.seed_runs import report_seeds, train_seeds  # it loads DVC: not for --help

    plan = train_seeds(args.n, args.set_param, queue=args.queue_only)
    if args.queue_only:
        return 0
    print(report_seeds(plan, args.out))
    return 0
