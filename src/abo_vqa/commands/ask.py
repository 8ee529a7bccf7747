"""Ask a model about one image, or about a folder (or tar) of images and a table of questions.

    abo-vqa ask --model blip --image docs/images/umbrella.jpg --question "What color is it?"
    abo-vqa ask --images DIR --csv questions.csv --out answers.csv

The table's columns may have any of the usual names; the answers come as generated_answer, and
`abo-vqa score answers.csv` takes them as they are.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from abo_vqa.commands.adapter_option import add_adapter_option
from abo_vqa.core.config import Config, load_config
from abo_vqa.core.errors import UserError
from abo_vqa.core.files import refuse_overwriting, refuse_unwritable
from abo_vqa.core.locks import discard
from abo_vqa.core.paths import FINETUNED_MODEL, FINETUNED_MODELS
from abo_vqa.core.stage import pin_threads
from abo_vqa.core.tables import write_table
from abo_vqa.data.columns import add_columns_option
from abo_vqa.data.image_files import load_image
from abo_vqa.data.question_table import QuestionTable
from abo_vqa.models.registry import STUDY_MODELS, require_model

_NONE_ANSWERED = 1  # exit code
_USAGE = """abo-vqa ask [--model MODEL] --image FILE --question TEXT [--choices TEXT …]
       abo-vqa ask [--model MODEL] --images DIR --csv FILE --out FILE [--columns COLUMNS]"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options.

    Args:
        parser: the command's parser.
    """
    parser.usage = _USAGE
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = (
        "exit code: 0; 1 if no row of the table was answered (the table is written, with\n"
        "the reasons in its column error); 2 if something is wrong with what was given."
    )
    names = ", ".join([*STUDY_MODELS, *FINETUNED_MODELS])
    parser.add_argument(
        "--model",
        default=FINETUNED_MODEL,
        metavar="MODEL",
        help=f"{names}, or another name under models in the profile (default: %(default)s)",
    )
    add_adapter_option(parser)
    one = parser.add_argument_group("one image (JPEG, PNG, WebP, GIF, BMP)")
    one.add_argument("--image", type=Path, metavar="FILE", help="the image")
    one.add_argument("--question", metavar="TEXT", help="one question about it")
    one.add_argument(
        "--choices", nargs="+", default=[], metavar="TEXT", help="rank these by likelihood"
    )
    many = parser.add_argument_group("a table of questions")
    many.add_argument(
        "--images", type=Path, metavar="DIR", help="folder of the images, or a tar of them"
    )
    many.add_argument(
        "--csv",
        type=Path,
        metavar="FILE",
        help="an image (image_name, image_path, …) and a question per row",
    )
    many.add_argument("--out", type=Path, metavar="FILE", help="where the table with answers goes")
    add_columns_option(parser)


def command(args: argparse.Namespace) -> int:
    """Answer, and print or write the answers.

    Args:
        args: the options.

    Returns:
        The exit code.
    """
    single, table = (args.image, args.question), (args.images, args.csv, args.out)
    one = None not in single and not any(table)
    many = None not in table and single == (None, None) and not args.choices
    if not (one or many):
        raise UserError(
            "give either --image FILE --question TEXT, or --images DIR --csv FILE --out FILE."
        )
    config = load_config()
    require_model(args.model, config, FINETUNED_MODELS)
    pin_threads(config.threads)
    if many:
        return _ask_table(args, config)
    # Only here: it loads torch, and --help and mistakes shouldn't take seconds.
    from abo_vqa.models.answering.adhoc import answer_question

    image = load_image(args.image)
    answers = answer_question(args.model, config, args.adapter, image, args.question, args.choices)
    for text, score in answers:
        print(text if score is None else f"{score:10.4f}  {text}")
    return 0


def _ask_table(args: argparse.Namespace, config: Config) -> int:
    """Write the table with generated_answer, and the reasons where there is no answer.

    Returns:
        The exit code: `_NONE_ANSWERED` if every row failed, else 0.
    """
    from abo_vqa.models.answering.adhoc import answer_table

    refuse_overwriting([args.csv], [args.out])
    refuse_unwritable(args.out, "the answers")
    questions = QuestionTable.read(args.csv, args.images, args.columns)
    print(questions.columns.describe())
    answers, journal = answer_table(
        args.model, config, args.adapter, questions.rows, questions.images
    )
    table, reasons = questions.answered(answers)
    write_table(table, args.out)
    discard(journal)
    if questions.stale:
        print(f"left out: {', '.join(questions.stale)}, from an earlier run")
    print(f"{reasons.count(''):,} answers → {args.out}")
    if failures := questions.failures(reasons):
        print(f"warning: {failures}. The column error has each row's.", file=sys.stderr)
    return 0 if "" in reasons else _NONE_ANSWERED
