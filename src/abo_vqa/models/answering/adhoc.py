"""Answers outside the pipeline: to one question, or to a table of questions."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from abo_vqa.core.errors import UserError
from abo_vqa.core.fingerprints import file_md5
from abo_vqa.core.locks import locked
from abo_vqa.core.memory import out_of_memory
from abo_vqa.core.paths import FINETUNED_MODELS
from abo_vqa.core.scratch import scratch
from abo_vqa.models.answering.finetuned import load_by_name, stage_of
from abo_vqa.models.answering.images import keep_encoded
from abo_vqa.models.answering.journal import answers_key, collect
from abo_vqa.models.answering.ranked import ranked_candidates
from abo_vqa.models.answering.runner import predict_rows
from abo_vqa.models.candidates import candidates_for
from abo_vqa.models.registry import checkpoint_key, checkpoint_of
from abo_vqa.models.sources import ImageFiles

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image

    from abo_vqa.core.config import Config
    from abo_vqa.data.image_collection import ImageFolder
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
        name: the model's name, or "finetuned" or "finetuned-ranked".
        config: the settings.
        adapter: the folder of the fine-tuned model's adapter.
        image: the image.
        question: the question.
        choices: possible answers to rank by likelihood; none to generate one.

    Returns:
        The answer, without a score; or the choices with their log-likelihoods, the likeliest first.

    Raises:
        UserError: Memory isn't enough for one question, or the model gives no answer.
    """
    model = load_by_name(name, config, adapter)
    try:
        return _answer(model, image, question, choices)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        remedy = model.memory_advice(checkpoint_key(_registered(name, config)))
        raise UserError(f"out of memory while answering a single question. {remedy}") from error


def _answer(
    model: VQAModel, image: Image, question: str, choices: Sequence[str]
) -> list[tuple[str, float | None]]:
    """Ask a loaded model; see `answer_question`."""
    if not choices:
        answer = model.answer([image], [question])[0]
        if answer.error:
            raise UserError(f"no answer: {answer.error}")
        return [(answer.text, None)]
    scores = model.rank([image], [question], [choices])[0]
    ranked = sorted(zip(choices, scores, strict=True), key=lambda pair: -pair[1])
    return [(choice, score) for choice, score in ranked]


def answer_table(
    name: str,
    config: Config,
    adapter: Path,
    rows: pd.DataFrame,
    images: ImageFolder,
    command: str = "ask",
) -> tuple[pd.DataFrame, Path]:
    """Answer a table of questions; an interrupted run continues where it was.

    Args:
        name: the model's name, or "finetuned" or "finetuned-ranked".
        config: the settings.
        adapter: the folder of the fine-tuned model's adapter.
        rows: columns row_id, image_path, question.
        images: where the images are.
        command: whose journal it is.

    Returns:
        The answers, one per row, and the journal's folder, to be discarded once they are written.
    """
    registered = _registered(name, config)
    weights = [file_md5(file) for file in sorted(adapter.glob("adapter_*"))]
    candidates = [candidates_for(name, config), ranked_candidates(name, config)]
    more = [name, weights, candidates, images.states(rows["image_path"])]
    key = answers_key(stage_of(name), registered, config, rows, more)
    size = checkpoint_of(registered, config).batch_size
    with locked(scratch(command, key)) as folder:
        if (answers := collect(rows, folder)) is None:
            try:
                model = load_by_name(name, config, adapter)
            except UserError:
                with suppress(OSError):  # it holds answers
                    folder.rmdir()
                raise
            source = keep_encoded(ImageFiles(images.image), model, rows, checkpoint_key(registered))
            answers = predict_rows(model, rows, source, folder, size, checkpoint_key(registered))
    return answers, folder


def _registered(name: str, config: Config) -> str:
    """Return the model under which a name's settings are found."""
    return config.lora.model if name in FINETUNED_MODELS else name
