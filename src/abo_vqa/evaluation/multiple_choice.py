"""Multiple-choice accuracy of a model on an exported set."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from abo_vqa.core.errors import UserError
from abo_vqa.core.fingerprints import file_md5
from abo_vqa.core.locks import discard, locked
from abo_vqa.core.paths import CHOICES
from abo_vqa.core.scratch import scratch
from abo_vqa.core.tables import write_table
from abo_vqa.data.image_decoding import UnreadableImageError, decode
from abo_vqa.data.image_files import ImageError
from abo_vqa.evaluation.statistics import bootstrap, interval
from abo_vqa.evaluation.table_scores import clusters_of
from abo_vqa.models.answering.finetuned import FINETUNED, load
from abo_vqa.models.answering.journal import journal_key
from abo_vqa.models.answering.runner import predict_rows
from abo_vqa.models.base import Answer, VQAModel
from abo_vqa.models.registry import checkpoint_of, weights_key
from abo_vqa.models.sources import PictureFiles

if TYPE_CHECKING:
    from PIL.Image import Image

    from abo_vqa.config import Config


_COLUMNS = ("row_id", "image_path", "question", "answer", "choices", "answer_index")


class Chooser(VQAModel):
    """A model that answers with the likeliest choice.

    A question is a JSON list of the question and its choices; see `packed`. The confidence is the
    choice's share of the likelihood of all choices of the row. Rows share batches by picture,
    whatever the model prefers: questions that differ by their choices share nothing.
    """

    def __init__(self, model: VQAModel) -> None:
        if type(model).score_choices is VQAModel.score_choices:
            raise UserError(f"{type(model).__name__} can't rank choices by their likelihood.")
        self.model = model
        self.device, self.supported_settings = model.device, model.supported_settings

    def preprocess(self, images: Sequence[Image]) -> Any:
        return self.model.preprocess(images)

    def encode(self, pixel_values: Any) -> Any:
        return self.model.encode(pixel_values)

    def image_error(self, image: Image) -> str:
        return self.model.image_error(image)

    def predict_answers(
        self, encoded: Any, image_index: Sequence[int], questions: Sequence[str]
    ) -> list[Answer]:
        rows = [json.loads(question) for question in questions]
        choices = [row[1:] for row in rows]
        ranked = self.model.score_choices(encoded, image_index, [row[0] for row in rows], choices)
        return [best(*pair) for pair in zip(choices, ranked, strict=True)]

    def question_errors(
        self, questions: Sequence[str], choices: Sequence[Sequence[str]] | None = None
    ) -> list[str]:
        rows = [json.loads(question) for question in questions]
        return self.model.question_errors([row[0] for row in rows], [row[1:] for row in rows])

    def record(self) -> dict[str, Any]:
        return {**self.model.record(), "decoding": "likeliest choice"}


def best(choices: Sequence[str], scores: Sequence[float]) -> Answer:
    """The likeliest choice, the first of equal ones; log-likelihoods in, softmax out.

    A model with a vocabulary of answers gives minus infinity to what isn't in it.
    """
    top = max(scores)
    if top == -math.inf:
        return Answer("", None, "none of the choices is among the model's answers")
    total = sum(math.exp(score - top) for score in scores)
    return Answer(choices[scores.index(top)], 1 / total)


def packed(question: str, choices: Sequence[str]) -> str:
    return json.dumps([question, *choices], ensure_ascii=False)


def _files_of(source: Path, split: str) -> list[Path]:
    """The Parquet files of a split.

    Args:
        source: an export's folder, or one file of its columns.
    Raises:
        UserError: there is none.
    """
    files = sorted(source.glob(f"data/{split}-*.parquet")) if source.is_dir() else [source]
    if not files or not files[0].is_file():
        raise UserError(f"no {split} split in {source}. Run `abo-vqa export --choices 4` first.")
    return files


def _read_set(files: Sequence[Path]) -> tuple[pd.DataFrame, dict[str, bytes]]:
    """The rows of a split's files, and the bytes of its pictures by path.

    Raises:
        UserError: the set has no choices.
    """
    from pyarrow import parquet

    parts, pictures = [], {}
    for file in files:
        opened = parquet.ParquetFile(file)
        missing = [name for name in (*_COLUMNS, "image") if name not in opened.schema_arrow.names]
        if missing:
            raise UserError(
                f"{file} lacks the column(s) {', '.join(missing)}. "
                "Run `abo-vqa export --choices 4`: choices aren't made without it."
            )
        for group in range(opened.num_row_groups):  # JPEGs: a hundred thousand take under 1 GB
            table = opened.read_row_group(group, [*_COLUMNS, "image"])
            parts.append(table.select(list(_COLUMNS)).to_pandas())
            paths, images = table["image_path"].to_pylist(), table["image"]
            for at, path in enumerate(paths):
                if path not in pictures:
                    pictures[path] = images[at].as_py()["bytes"]
    return pd.concat(parts, ignore_index=True), pictures


def score(rows: pd.DataFrame, answers: pd.DataFrame, config: Config) -> dict[str, float]:
    """Accuracy over all rows with its bootstrap interval over images; a failed row is wrong."""
    right = (answers["prediction"] == rows["answer_text"]) & (answers["error"] == "")
    values = np.asarray(right, dtype=np.float64)[:, None]
    means = bootstrap(values, clusters_of(rows), config.evaluate.resamples, config.seed)
    ((low, high),) = interval(means, config.evaluate.confidence).tolist()
    chance = float(np.mean([1 / len(choices) for choices in rows["choices"]]))
    return {"accuracy": float(values.mean()), "low": low, "high": high, "chance": chance}


def choose(args: argparse.Namespace, config: Config) -> str:
    """Write the predictions; an interrupted run goes on where it was."""
    files = _files_of(args.data, args.split)
    table, pictures = _read_set(files)
    table["answer_text"] = [
        choices[int(at)]
        for choices, at in zip(table["choices"], table["answer_index"], strict=True)
    ]
    asked = table[["row_id", "image_path"]].assign(
        question=[
            packed(q, list(c)) for q, c in zip(table["question"], table["choices"], strict=True)
        ]
    )

    def picture(path: str) -> Image:
        try:
            return decode(pictures[path], path)
        except UnreadableImageError as error:
            raise ImageError(path, str(error)) from error

    name = "blip" if args.model == FINETUNED else args.model
    known = [*files, *sorted(args.adapter.glob("adapter_*")), Path(__file__)]
    more = [args.model, [file_md5(file) for file in known]]
    size = checkpoint_of(name, config).batch_size
    with locked(scratch("choose", journal_key(name, config, asked, more))) as folder:
        model = Chooser(load(args.model, config, args.adapter))
        answers = predict_rows(model, asked, PictureFiles(picture), folder, size, weights_key(name))
    out = args.out or CHOICES / args.model / "predictions.csv"
    columns = answers.assign(answer=table["answer_text"], image_path=table["image_path"])
    write_table(columns, out)
    discard(folder)
    found = score(table, answers, config)
    failed = int((answers["error"] != "").sum())
    said = (
        f"{args.model}: {found['accuracy']:.1%} of {len(table):,} rows "
        f"[{found['low']:.1%}, {found['high']:.1%}], chance {found['chance']:.1%} → {out}"
    )
    return f"{said}; {failed:,} without an answer" if failed else said
