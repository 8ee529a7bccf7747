"""`abo-vqa suspects`: the questions of the set by how probably their answers are wrong.

A model is fine-tuned on all parts of the images but one, and doubts the answers of that one; see
`training.suspicion`. People then look at the likeliest mistakes first.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from abo_vqa.annotate.draws import DRAWN_COLUMN, SUSPICIOUS
from abo_vqa.core.config import load_config
from abo_vqa.core.errors import UserError
from abo_vqa.core.files import refuse_overwriting, refuse_unwritable
from abo_vqa.core.paths import DATA, VQA
from abo_vqa.core.stage import pin_threads
from abo_vqa.core.tables import read_table, write_table

_OUT = DATA / "suspects.csv"
_COLUMNS = ["image_path", "question", "answer"]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options.

    Args:
        parser: the command's parser.
    """
    parser.description = (
        f"Rank the questions of {VQA} by how much likelier a model finds its own answer than the "
        "table's. The model is lora.model, fine-tuned on the other parts of the images."
    )
    parser.add_argument(
        "--folds",
        type=int,
        default=5,
        metavar="N",
        help="parts of the images; N trainings (default: %(default)s)",
    )
    parser.add_argument(
        "--out", type=Path, default=_OUT, metavar="FILE", help="the list (default: %(default)s)"
    )
    parser.add_argument(
        "--top", type=int, metavar="N", help="list the N most suspicious questions only"
    )


def command(args: argparse.Namespace) -> int:
    """Train, judge, and write the list.

    Args:
        args: the options.

    Returns:
        The exit code.
    """
    if args.folds < 2:
        raise UserError(f"--folds {args.folds}: at least 2, so that each part has another one.")
    if args.top is not None and args.top < 1:
        raise UserError(f"--top {args.top}: at least 1.")
    config = load_config()
    table = read_table(VQA, _COLUMNS)
    refuse_overwriting([VQA], [args.out])
    refuse_unwritable(args.out, "the list")
    pin_threads(config.threads)
    # Only now: it loads torch, for which threads are pinned.
    from abo_vqa.training.suspicion import cross_fitted_margins

    with cross_fitted_margins(config, table, args.folds) as judged:
        ranked = table[_COLUMNS].assign(**judged).sort_values("margin", ascending=False)
        unknown = int((judged["error"] != "").sum())
        listed = ranked[ranked["error"] == ""].drop(columns="error").head(args.top)
        listed["margin"] = [f"{margin:.4f}" for margin in listed["margin"]]
        write_table(listed.assign(**{DRAWN_COLUMN: SUSPICIOUS}), args.out)
    failed = f"; {unknown:,} couldn't be judged" if unknown else ""
    print(
        f"{len(listed):,} of {len(table):,} questions, the most suspicious first → {args.out}"
        f"{failed}"
    )
    print(
        f"A page to check them: abo-vqa generate --review page.html --vqa {args.out} "
        f"--sample {len(listed)}"
    )
    print(
        "What people decide there corrects the set. How many answers of the set are wrong is "
        "estimated from random pages only (without --vqa)."
    )
    return 0
