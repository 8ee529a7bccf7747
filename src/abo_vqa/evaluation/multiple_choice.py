"""Multiple-choice accuracy of a model on an exported set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from pyarrow import parquet

from abo_vqa.core.errors import UserError
from abo_vqa.core.fingerprints import file_md5
from abo_vqa.core.locks import discard, locked
from abo_vqa.core.paths import FINETUNED_MODEL
from abo_vqa.core.scratch import scratch
from abo_vqa.core.tables import write_table
from abo_vqa.data.image_decoding import UnreadableImageError, decode
from abo_vqa.data.image_files import ImageError
from abo_vqa.evaluation.clusters import image_clusters
from abo_vqa.evaluation.intervals import bootstrap_means, percentile_interval
from abo_vqa.models.answering import multiple_choice
from abo_vqa.models.answering.finetuned import load_by_name
from abo_vqa.models.answering.journal import answers_key
from abo_vqa.models.answering.multiple_choice import MultipleChoiceModel, pack_choices
from abo_vqa.models.answering.runner import predict_rows
from abo_vqa.models.registry import checkpoint_key, checkpoint_of
from abo_vqa.models.sources import ImageFiles

if TYPE_CHECKING:
    from PIL.Image import Image

    from abo_vqa.core.config import Config

_COLUMNS = ("row_id", "image_path", "question", "answer", "choices", "answer_index")


@dataclass(frozen=True)
class ChoiceSet:
    """One split of an exported set.

    Attributes:
        files: its Parquet files.
        rows: row_id, image_path, question, answer, choices, answer_index, and answer_text, the
            right choice.
        images: path → JPEG.
    """

    files: Sequence[Path]
    rows: pd.DataFrame
    images: dict[str, bytes]

    def image(self, path: str) -> Image:
        """Decode an image.

        Args:
            path: as in `rows`.

        Raises:
            ImageError: it can't be decoded.
        """
        try:
            return decode(self.images[path], path)
        except UnreadableImageError as error:
            raise ImageError(path, str(error)) from error


@dataclass(frozen=True)
class ChoiceAccuracy:
    """Accuracy over all rows; a failed row is wrong.

    Attributes:
        accuracy: share of rows whose right choice was the likeliest.
        low: lower bound of its bootstrap interval over images.
        high: upper bound.
        chance: expected accuracy of guessing.
        rows: number of rows.
        failed: rows without an answer.
    """

    accuracy: float
    low: float
    high: float
    chance: float
    rows: int
    failed: int


def read_choice_set(source: Path, split: str) -> ChoiceSet:
    """Read a split of an exported set.

    Args:
        source: an export's folder, or one Parquet file of its columns.
        split: e.g. "test".

    Returns:
        Its rows and images.

    Raises:
        UserError: there is no such split, or it has no choices.
    """
    files = sorted(source.glob(f"data/{split}-*.parquet")) if source.is_dir() else [source]
    if not files or not files[0].is_file():
        raise UserError(f"no {split} split in {source}. Run `abo-vqa export --choices 4` first.")
    parts: list[pd.DataFrame] = []
    images: dict[str, bytes] = {}
    for path in files:
        file = parquet.ParquetFile(path)
        missing = [name for name in (*_COLUMNS, "image") if name not in file.schema_arrow.names]
        if missing:
            raise UserError(
                f"{path} lacks the column(s) {', '.join(missing)}. "
                "Run `abo-vqa export --choices 4`: choices aren't made without it."
            )
        for group in range(file.num_row_groups):  # JPEGs: a hundred thousand take under 1 GB
            table = file.read_row_group(group, [*_COLUMNS, "image"])
            parts.append(table.select(list(_COLUMNS)).to_pandas())
            column = table["image"]
            for i, image_path in enumerate(table["image_path"].to_pylist()):
                if image_path not in images:
                    images[image_path] = column[i].as_py()["bytes"]
    rows = pd.concat(parts, ignore_index=True)
    rows["answer_text"] = [
        choices[int(i)] for choices, i in zip(rows["choices"], rows["answer_index"], strict=True)
    ]
    return ChoiceSet(files, rows, images)


def answer_choices(
    choice_set: ChoiceSet, model: str, adapter: Path, config: Config, out: Path
) -> ChoiceAccuracy:
    """Write a model's predictions of a set; an interrupted run resumes where it stopped.

    Args:
        choice_set: the questions.
        model: a family, or "finetuned".
        adapter: the PEFT folder of "finetuned".
        config: the settings.
        out: the CSV of predictions.

    Returns:
        The model's accuracy.
    """
    rows = choice_set.rows
    packed = [
        pack_choices(question, list(choices))
        for question, choices in zip(rows["question"], rows["choices"], strict=True)
    ]
    prompts = rows[["row_id", "image_path"]].assign(question=packed)
    name = "blip" if model == FINETUNED_MODEL else model
    code = [Path(__file__), Path(multiple_choice.__file__)]
    files = [*choice_set.files, *sorted(adapter.glob("adapter_*")), *code]
    more = [model, [file_md5(file) for file in files]]
    with locked(scratch("choose", answers_key(name, config, prompts, more))) as folder:
        answers = predict_rows(
            MultipleChoiceModel(load_by_name(model, config, adapter)),
            prompts,
            ImageFiles(choice_set.image),
            folder,
            checkpoint_of(name, config).batch_size,
            checkpoint_key(name),
        )
    write_table(answers.assign(answer=rows["answer_text"], image_path=rows["image_path"]), out)
    discard(folder)
    return choice_accuracy(rows, answers, config)


def choice_accuracy(rows: pd.DataFrame, answers: pd.DataFrame, config: Config) -> ChoiceAccuracy:
    """Score answers to multiple-choice questions.

    Args:
        rows: as in `ChoiceSet`.
        answers: prediction and error, in the same order.
        config: resamples, confidence and seed.

    Returns:
        Accuracy with its interval.
    """
    correct = (answers["prediction"] == rows["answer_text"]) & (answers["error"] == "")
    values = np.asarray(correct, dtype=np.float64)[:, None]
    settings = config.evaluate
    means = bootstrap_means(values, image_clusters(rows), settings.resamples, config.seed)
    ((low, high),) = percentile_interval(means, settings.confidence).tolist()
    return ChoiceAccuracy(
        accuracy=float(values.mean()),
        low=low,
        high=high,
        chance=float(np.mean([1 / len(choices) for choices in rows["choices"]])),
        rows=len(rows),
        failed=int((answers["error"] != "").sum()),
    )
