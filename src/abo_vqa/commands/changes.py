"""`abo-vqa changes`: settings, accuracies and answers that differ from another commit's.

abo-vqa changes main                     # the workspace, after `dvc repro`, against main
abo-vqa changes v0.1.0 main --markdown   # two commits, as Markdown for a pull request
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from abo_vqa.core.paths import FINETUNED_MODEL
from abo_vqa.core.scratch import project_root


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options.

    Args:
        parser: the command's parser.
    """
    parser.add_argument("base", metavar="BASE", help="a commit, branch, tag or DVC experiment")
    parser.add_argument(
        "head", metavar="HEAD", nargs="?", help="another one (default: the workspace)"
    )
    parser.add_argument("--markdown", action="store_true", help="as Markdown")
    parser.add_argument(
        "--model",
        action="append",
        help=f"a model whose changed answers are listed (default: {FINETUNED_MODEL}); may be "
        "repeated",
    )
    parser.add_argument(
        "--rows",
        type=int,
        default=20,
        help="changed answers listed per model at most; 0 for none (default: %(default)s)",
    )
    parser.add_argument(
        "--csv", type=Path, metavar="FILE", help="also write all changed answers of all models"
    )


def command(args: argparse.Namespace) -> int:
    """Print what changed.

    Args:
        args: the options.

    Returns:
        The exit code.
    """
    from abo_vqa.commands.changed_results import compare  # it loads DVC: not for --help

    table = None if args.csv is None else args.csv.absolute()
    os.chdir(project_root())
    print(
        compare(
            args.base,
            args.head,
            models=args.model or [FINETUNED_MODEL],
            listed=args.rows,
            table=table,
            markdown=args.markdown,
        ),
        end="" if args.markdown else "\n",
    )
    return 0
