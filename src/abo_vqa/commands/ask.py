"""Ask a model about one picture, or about a folder of pictures and a table of questions.

    abo-vqa ask --model blip --image chair.jpg --question "What color is it?"
    abo-vqa ask --images DIR --csv questions.csv --out answers.csv

The table's columns may have any of the usual names; the answers come as generated_answer, and
`abo-vqa score answers.csv` takes them as they are.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from abo_vqa.config import load_config
from abo_vqa.core.errors import UserError
from abo_vqa.core.files import refuse_overwriting, refuse_unwritable
from abo_vqa.core.fingerprints import file_md5
from abo_vqa.core.locks import discard, locked
from abo_vqa.core.memory import out_of_memory
from abo_vqa.core.paths import ADAPTER
from abo_vqa.core.scratch import scratch
from abo_vqa.core.stage import pin_threads
from abo_vqa.core.tables import write_table
from abo_vqa.data.columns import add_columns_option
from abo_vqa.data.image_files import load_image
from abo_vqa.data.question_table import QuestionTable
from abo_vqa.models.answering.finetuned import FINETUNED, load
from abo_vqa.models.answering.journal import journal_key
from abo_vqa.models.answering.runner import predict_rows
from abo_vqa.models.registry import FAMILIES, checkpoint_of, weights_key
from abo_vqa.models.sources import PictureFiles

if TYPE_CHECKING:
    from PIL.Image import Image

    from abo_vqa.config import Config
    from abo_vqa.models.base import VQAModel

_NONE_ANSWERED = 1  # exit code
_USAGE = """abo-vqa ask [--model MODEL] --image FILE --question TEXT [--choices TEXT …]
       abo-vqa ask [--model MODEL] --images DIR --csv FILE --out FILE [--columns COLUMNS]"""


def _ask_one(model: VQAModel, seen: Image, question: str, choices: Sequence[str]) -> str:
    """The answer to one question; with choices, these from likely to unlikely."""
    if not choices:
        return model.answer([seen], [question])[0].text
    scores = model.rank([seen], [question], [choices])[0]
    ranked = sorted(zip(scores, choices, strict=True), key=lambda pair: -pair[0])
    return "\n".join(f"{score:10.4f}  {choice}" for score, choice in ranked)


def _ask_table(args: argparse.Namespace, config: Config) -> int:
    """Write the table with generated_answer; an interrupted run goes on where it was.

    A row that can't be answered gets an empty answer and the reason in the column error; on the
    terminal the reasons are counted.

    Returns:
        the exit code: `_NONE_ANSWERED` if every row failed, else 0.
    """
    refuse_overwriting([args.csv], [args.out])
    refuse_unwritable(args.out, "the answers")
    asked = QuestionTable.read(args.csv, args.images, args.columns)
    print(asked.columns.describe())
    name = "blip" if args.model == FINETUNED else args.model
    known = [args.model, [file_md5(f) for f in sorted(args.adapter.glob("adapter_*"))]]
    key = journal_key(name, config, asked.rows, [*known, states(asked)])
    size = checkpoint_of(name, config).batch_size
    with locked(scratch("ask", key)) as folder:
        model = load(args.model, config, args.adapter)
        answers = predict_rows(
            model, asked.rows, PictureFiles(load_image), folder, size, weights_key(name)
        )
    table, reasons = asked.answered(answers)
    write_table(table, args.out)
    discard(folder)
    if asked.stale:
        print(f"left out: {', '.join(asked.stale)}, from an earlier run")
    print(f"{reasons.count(''):,} answers → {args.out}")
    if failures := asked.failures(reasons):
        print(f"warning: {failures}. The column error has each row's.", file=sys.stderr)
    return 0 if "" in reasons else _NONE_ANSWERED


def states(asked: QuestionTable) -> list[list[int]]:
    """Size and time of change of every picture: a mended one is read again."""
    files = [Path(path).stat() for path in sorted(set(asked.rows["image_path"]))]
    return [[file.st_size, file.st_mtime_ns] for file in files]


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = _USAGE
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = (
        "exit code: 0; 1 if not one row of the table was answered (the table is written, with\n"
        "the reasons in its column error); 2 if something is wrong with what was given."
    )
    names = [*FAMILIES, FINETUNED]
    parser.add_argument(
        "--model",
        default=FINETUNED,
        choices=names,
        metavar="MODEL",
        help=f"{', '.join(names)} (default: %(default)s)",
    )
    parser.add_argument(
        "--adapter",
        type=Path,
        default=ADAPTER,
        metavar="DIR",
        help="PEFT folder of `finetuned` (default: %(default)s)",
    )
    one = parser.add_argument_group("one picture (JPEG, PNG, WebP, GIF, BMP)")
    one.add_argument("--image", type=Path, metavar="FILE", help="the picture")
    one.add_argument("--question", metavar="TEXT", help="one question about it")
    one.add_argument(
        "--choices", nargs="+", default=[], metavar="TEXT", help="rank these by likelihood"
    )
    many = parser.add_argument_group("a table of questions")
    many.add_argument("--images", type=Path, metavar="DIR", help="folder of the pictures")
    many.add_argument(
        "--csv",
        type=Path,
        metavar="FILE",
        help="a picture (image_name, image_path, …) and a question a row",
    )
    many.add_argument("--out", type=Path, metavar="FILE", help="where the table with answers goes")
    add_columns_option(parser)


def command(args: argparse.Namespace) -> int:
    single, table = (args.image, args.question), (args.images, args.csv, args.out)
    one = None not in single and not any(table)
    many = None not in table and single == (None, None) and not args.choices
    if not (one or many):
        raise UserError(
            "give either --image FILE --question TEXT, or --images DIR --csv FILE --out FILE."
        )
    config = load_config()
    pin_threads(config.threads)
    if many:
        return _ask_table(args, config)
    seen = load_image(args.image)
    model = load(args.model, config, args.adapter)
    try:
        print(_ask_one(model, seen, args.question, args.choices))
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        name = "blip" if args.model == FINETUNED else weights_key(args.model)
        raise UserError(f"out of memory: one question. {model.memory_advice(name)}") from error
    return 0
