"""Multiple choice with any model that can rank: the likeliest choice is the answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abo_vqa.core.fingerprints import file_md5
from abo_vqa.core.locks import locked
from abo_vqa.core.paths import FINETUNED_MODEL
from abo_vqa.core.scratch import scratch
from abo_vqa.models.answering.finetuned import load_by_name, stage_of
from abo_vqa.models.answering.journal import answers_key
from abo_vqa.models.answering.runner import predict_rows
from abo_vqa.models.answering.wrapper import ChoosingModel
from abo_vqa.models.answers import Answer, likeliest
from abo_vqa.models.registry import checkpoint_key, checkpoint_of
from abo_vqa.models.sources import ImageFiles

if TYPE_CHECKING:
    import pandas as pd

    from abo_vqa.core.config import Config
    from abo_vqa.data.choice_set import ChoiceSet


class MultipleChoiceModel(ChoosingModel):
    """A model that answers with the likeliest of a question's choices.

    A question is a JSON list of the question and its choices, as `pack_choices` makes it, so that
    everything that batches, journals and resumes plain questions takes it as well. The confidence
    is the choice's share of the likelihood of all choices of the row. Rows share batches by
    image, whatever the model prefers: questions that differ by their choices share nothing.
    """

    def predict_answers(
        self, encoded: Any, image_index: Sequence[int], questions: Sequence[str]
    ) -> list[Answer]:
        """Return the likeliest choice of each packed question."""
        rows = [json.loads(question) for question in questions]
        choices = [row[1:] for row in rows]
        scores = self.model.score_choices(encoded, image_index, [row[0] for row in rows], choices)
        return [likeliest(*pair) for pair in zip(choices, scores, strict=True)]

    def question_errors(
        self, questions: Sequence[str], choices: Sequence[Sequence[str]] | None = None
    ) -> list[str]:
        """Return for each packed question why it can't be asked, or ""."""
        del choices  # they are packed with the questions
        rows = [json.loads(question) for question in questions]
        return self.model.question_errors([row[0] for row in rows], [row[1:] for row in rows])

    def record(self) -> dict[str, Any]:
        """Return what the answers depend on."""
        return {**self.model.record(), "decoding": "likeliest choice"}


def pack_choices(question: str, choices: Sequence[str]) -> str:
    """Put a question and its choices into one text, as `MultipleChoiceModel` takes it.

    Args:
        question: the question.
        choices: its choices.
    """
    return json.dumps([question, *choices], ensure_ascii=False)


def answer_choices(
    choice_set: ChoiceSet, model: str, adapter: Path, config: Config
) -> tuple[pd.DataFrame, Path]:
    """Answer the questions of a set; an interrupted run resumes where it stopped.

    Args:
        choice_set: the questions.
        model: the model's name, or "finetuned".
        adapter: the PEFT folder of "finetuned".
        config: the settings.

    Returns:
        The answers, one per row, and the journal's folder, to be discarded once they are written.
    """
    rows = choice_set.rows
    packed = [
        pack_choices(question, list(choices))
        for question, choices in zip(rows["question"], rows["choices"], strict=True)
    ]
    prompts = rows[["row_id", "image_path"]].assign(question=packed)
    name = config.lora.model if model == FINETUNED_MODEL else model
    files = [*choice_set.files, *sorted(adapter.glob("adapter_*")), Path(__file__)]
    more = [model, [file_md5(file) for file in files]]
    key = answers_key(stage_of(model), name, config, prompts, more)
    with locked(scratch("choose", key)) as folder:
        answers = predict_rows(
            MultipleChoiceModel(load_by_name(model, config, adapter)),
            prompts,
            ImageFiles(choice_set.image),
            folder,
            checkpoint_of(name, config).batch_size,
            checkpoint_key(name),
        )
    return answers, folder
