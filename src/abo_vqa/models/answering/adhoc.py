"""Answers outside the pipeline: to one question, or to a table of questions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from abo_vqa.core.errors import UserError
from abo_vqa.core.fingerprints import file_md5
from abo_vqa.core.locks import locked
from abo_vqa.core.memory import out_of_memory
from abo_vqa.core.paths import FINETUNED_MODEL
from abo_vqa.core.scratch import scratch
from abo_vqa.data.image_files import load_image
from abo_vqa.models.answering.finetuned import load_by_name, stage_of
from abo_vqa.models.answering.journal import answers_key
from abo_vqa.models.answering.runner import predict_rows
from abo_vqa.models.registry import checkpoint_key, checkpoint_of
from abo_vqa.models.sources import ImageFiles

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image

    from abo_vqa.core.config import Config
    from abo_vqa.data.question_table import QuestionTable
    from abo_vqa.models.base import VQAModel


def answer_question(
    name: str,
    config: Config,
    adapter: Path,
    image: Image,
    question: str,
    choices: Sequence[str] = (),
) -> list[tuple[str, float | None]]:
    """Answer one question about one image.

    Args:
        name: the model's name, or "finetuned".
        config: the settings.
        adapter: the folder of the fine-tuned model's adapter.
        image: the image.
        question: the question.
        choices: possible answers to rank by likelihood; none to generate one.

    Returns:
        The answer, without a score; or the choices with their log-likelihoods, the likeliest first.

    Raises:
        UserError: Memory isn't enough for one question.
    """
    model = load_by_name(name, config, adapter)
    try:
        return _answer(model, image, question, choices)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        remedy = model.memory_advice(checkpoint_key(_registered(name)))
        raise UserError(f"out of memory while answering a single question. {remedy}") from error


def _answer(
    model: VQAModel, image: Image, question: str, choices: Sequence[str]
) -> list[tuple[str, float | None]]:
    """Ask a loaded model; see `answer_question`."""
    if not choices:
        return [(model.answer([image], [question])[0].text, None)]
    scores = model.rank([image], [question], [choices])[0]
    ranked = sorted(zip(choices, scores, strict=True), key=lambda pair: -pair[1])
    return [(choice, score) for choice, score in ranked]


def answer_table(
    name: str, config: Config, adapter: Path, questions: QuestionTable
) -> tuple[pd.DataFrame, Path]:
    """Answer a table of questions; an interrupted run continues where it was.

    Args:
        name: the model's name, or "finetuned".
        config: the settings.
        adapter: the folder of the fine-tuned model's adapter.
        questions: the table.

    Returns:
        The answers, one per row, and the journal's folder, to be discarded once they are written.
    """
    registered = _registered(name)
    weights = [file_md5(file) for file in sorted(adapter.glob("adapter_*"))]
    more = [name, weights, _file_states(questions)]
    key = answers_key(stage_of(name), registered, config, questions.rows, more)
    size = checkpoint_of(registered, config).batch_size
    with locked(scratch("ask", key)) as folder:
        model = load_by_name(name, config, adapter)
        images = ImageFiles(load_image)
        answers = predict_rows(
            model, questions.rows, images, folder, size, checkpoint_key(registered)
        )
    return answers, folder


def _registered(name: str) -> str:
    """Return the model under which a name's settings are found."""
    return "blip" if name == FINETUNED_MODEL else name


def _file_states(questions: QuestionTable) -> list[list[int]]:
    """Return size and time of change of every image, so that a changed one is read again."""
    files = [Path(path).stat() for path in sorted(set(questions.rows["image_path"]))]
    return [[file.st_size, file.st_mtime_ns] for file in files]
