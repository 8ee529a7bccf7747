"""Ask a model about one picture, or about a folder of pictures and a table of questions.

abo-vqa predict --model blip --image chair.jpg --question "What color is it?"
abo-vqa predict --model finetuned --images DIR --csv FILE.csv --out OUT.csv

The table has the columns image_name and question; the answers come as generated_answer.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from abo_vqa.answering import Files
from abo_vqa.archive import ImageError
from abo_vqa.config import load_config
from abo_vqa.errors import UserError
from abo_vqa.io import file_md5, read_table, scratch, write_table
from abo_vqa.models import FAMILIES, checkpoint_of, load_model
from abo_vqa.pictures import Unreadable, decode
from abo_vqa.predict import ADAPTER, candidates_for, journal_key, predict_rows
from abo_vqa.stage import pin_threads

if TYPE_CHECKING:
    from PIL.Image import Image

    from abo_vqa.config import Config
    from abo_vqa.models.base import VQAModel

FINETUNED = "finetuned"


def load(name: str, config: Config, adapter: Path = ADAPTER) -> VQAModel:
    """The model `name`, or for "finetuned" BLIP with the adapter."""
    if name != FINETUNED:
        candidates = candidates_for(name, config)
        return load_model(
            name, config, **({} if candidates is None else {"candidates": candidates})
        )
    if not (adapter / "adapter_config.json").is_file():
        raise UserError(f"no adapter in {adapter}; run the stage `finetune`, or give --adapter.")
    return load_model("blip", config, adapter=adapter)


def picture(path: str | Path) -> Image:
    """A JPEG or PNG file as RGB.

    Raises:
        ImageError: missing or unreadable.
    """
    path = Path(path)
    try:
        return decode(path.read_bytes(), path.name)
    except OSError as error:
        raise ImageError(str(path), error.strerror or "can't be opened") from error
    except Unreadable as error:
        raise ImageError(str(path), str(error)) from error


def ask_one(model: VQAModel, image: Path, question: str, choices: Sequence[str]) -> str:
    """The answer to one question; with choices, these from likely to unlikely."""
    seen = picture(image)
    if not choices:
        return model.answer([seen], [question])[0].text
    scores = model.rank([seen], [question], [choices])[0]
    ranked = sorted(zip(scores, choices, strict=True), key=lambda pair: -pair[0])
    return "\n".join(f"{score:10.4f}  {choice}" for score, choice in ranked)


def questions_of(table: pd.DataFrame, images: Path) -> pd.DataFrame:
    """Rows (row_id, image_path, question) of a table of image_name and question."""
    if not images.is_dir():
        raise UserError(f"no folder {images}; --images names the folder that image_name is in.")
    paths = [str(images / name) for name in table["image_name"]]
    columns = {"row_id": range(len(table)), "image_path": paths, "question": table["question"]}
    return pd.DataFrame(columns)


def ask_table(args: argparse.Namespace, config: Config) -> str:
    """Write the table with generated_answer added; an interrupted run goes on where it was.

    A row whose picture can't be read gets an empty answer and the reason in the column error.
    """
    table = read_table(args.csv, ["image_name", "question"])
    rows = questions_of(table, args.images)
    name = "blip" if args.model == FINETUNED else args.model
    adapter = [file_md5(f) for f in sorted(args.adapter.glob("adapter_*"))]
    folder = scratch("predict", journal_key(name, config, rows, [args.model, adapter]))
    model = load(args.model, config, args.adapter)
    size = checkpoint_of(name, config).batch_size
    answers = predict_rows(model, rows, Files(picture), folder, size)
    out = table.assign(generated_answer=answers["prediction"].to_numpy())
    failed = int((answers["error"] != "").sum())
    if failed:
        out["error"] = answers["error"].to_numpy()
    write_table(out, args.out)
    shutil.rmtree(folder)
    done = f"{len(out)} answers → {args.out}"
    return f"{done}; {failed} without an answer" if failed else done


def arguments(parser: argparse.ArgumentParser) -> None:
    names = [*FAMILIES, FINETUNED]
    parser.add_argument("--model", default=FINETUNED, choices=names, help="default: %(default)s")
    parser.add_argument("--adapter", type=Path, default=ADAPTER, help="PEFT folder of `finetuned`")
    parser.add_argument("--image", type=Path, help="one picture")
    parser.add_argument("--question", help="one question about --image")
    parser.add_argument("--choices", nargs="+", default=[], help="rank these by likelihood")
    parser.add_argument("--images", type=Path, help="folder of pictures")
    parser.add_argument("--csv", type=Path, help="table with the columns image_name, question")
    parser.add_argument("--out", type=Path, help="where the table with answers goes")


def command(args: argparse.Namespace) -> int:
    one = args.image is not None and args.question is not None
    many = args.images is not None and args.csv is not None and args.out is not None
    if one == many:
        raise UserError(
            "give either --image FILE --question TEXT, or --images DIR --csv FILE --out FILE."
        )
    config = load_config()
    pin_threads(config.threads)
    if many:
        print(ask_table(args, config))
    else:
        model = load(args.model, config, args.adapter)
        print(ask_one(model, args.image, args.question, args.choices))
    return 0
