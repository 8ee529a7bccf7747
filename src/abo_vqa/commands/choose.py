"""`abo-vqa choose`: a model on multiple choice, by how likely it finds each choice.

    abo-vqa export --choices 4
    abo-vqa choose --model blip

The set is an export (or any Parquet of its columns). Everything that a long run needs (batches,
journal, resuming, unreadable images) is `predict`'s: a row's choices travel with its question.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from abo_vqa.core.config import load_config
from abo_vqa.core.locks import discard
from abo_vqa.core.paths import ADAPTER, CHOICES, EXPORT, FINETUNED_MODEL
from abo_vqa.core.stage import pin_threads
from abo_vqa.core.tables import write_table
from abo_vqa.data.choice_set import read_choice_set
from abo_vqa.evaluation.multiple_choice import choice_accuracy
from abo_vqa.models.registry import STUDY_MODELS, require_model


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options.

    Args:
        parser: the command's parser.
    """
    names = ", ".join([*STUDY_MODELS, FINETUNED_MODEL])
    parser.add_argument(
        "--model",
        default=FINETUNED_MODEL,
        help=f"{names}, or another name under models in the profile (default: %(default)s)",
    )
    parser.add_argument("--adapter", type=Path, default=ADAPTER, help="PEFT folder of `finetuned`")
    parser.add_argument(
        "--data", type=Path, default=EXPORT, help="an export with choices (default: %(default)s)"
    )
    parser.add_argument("--split", default="test", help="of the export (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, help="predictions (default: reports/choices/MODEL/predictions.csv)"
    )


def command(args: argparse.Namespace) -> int:
    """Answer the multiple-choice questions, and print the accuracy.

    Args:
        args: the options.

    Returns:
        The exit code.
    """
    config = load_config()
    require_model(args.model, config, [FINETUNED_MODEL])
    pin_threads(config.threads)
    # Only here: it loads torch, and --help and mistakes shouldn't take seconds.
    from abo_vqa.models.answering.multiple_choice import answer_choices

    choice_set = read_choice_set(args.data, args.split)
    rows = choice_set.rows
    answers, folder = answer_choices(choice_set, args.model, args.adapter, config)
    out = args.out or CHOICES / args.model / "predictions.csv"
    write_table(answers.assign(answer=rows["answer_text"], image_path=rows["image_path"]), out)
    discard(folder)
    result = choice_accuracy(rows, answers, config)
    failed = f"; {result.failed:,} without an answer" if result.failed else ""
    print(
        f"{args.model}: {result.accuracy:.1%} of {result.rows:,} rows "
        f"[{result.low:.1%}, {result.high:.1%}], chance {result.chance:.1%} → {out}{failed}"
    )
    return 0
