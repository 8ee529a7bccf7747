"""How much likelier a model finds its own answers than given ones: by what it doubts them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abo_vqa.core.fingerprints import file_md5
from abo_vqa.core.locks import locked
from abo_vqa.core.scratch import scratch
from abo_vqa.models.answering.finetuned import uses_stored
from abo_vqa.models.answering.images import image_source, images_state
from abo_vqa.models.answering.journal import answers_key
from abo_vqa.models.answering.multiple_choice import MultipleChoiceModel, pack_choices
from abo_vqa.models.answering.runner import predict_rows
from abo_vqa.models.answers import Answer
from abo_vqa.models.registry import checkpoint_of, load_model

if TYPE_CHECKING:
    import pandas as pd

    from abo_vqa.core.config import Config


class MarginModel(MultipleChoiceModel):
    """A model that answers, and compares its answer with the given one.

    A question is packed with its given answer as its only choice. The confidence of an answer is
    the margin: its log-likelihood minus the given answer's, in nats. It is about 0 or less where
    the given answer is as good, and large where the model is sure of another one.
    """

    def predict_answers(
        self, encoded: Any, image_index: Sequence[int], questions: Sequence[str]
    ) -> list[Answer]:
        """Return the model's own answers, with their margins over the packed ones."""
        rows = [json.loads(question) for question in questions]
        asked = [question for question, _ in rows]
        own = self.model.predict_answers(encoded, image_index, asked)
        choices = [
            [answer.text or "?", given] for answer, (_, given) in zip(own, rows, strict=True)
        ]
        scores = self.model.score_choices(encoded, image_index, asked, choices)
        return [
            Answer(answer.text, mine - given, answer.error)
            for answer, (mine, given) in zip(own, scores, strict=True)
        ]

    def record(self) -> dict[str, Any]:
        """Return what the answers depend on."""
        return {**self.model.record(), "decoding": "own answer and its margin over the given one"}


def answer_with_margins(
    config: Config, rows: pd.DataFrame, adapter: Path
) -> tuple[pd.DataFrame, Path]:
    """Answer rows with `lora.model` and an adapter; an interrupted run goes on where it was.

    Args:
        config: the settings.
        rows: columns row_id, image_path, question, answer.
        adapter: a PEFT folder.

    Returns:
        Columns row_id, prediction, confidence (the margin, as text) and error, and the journal's
        folder, to be discarded once they are written.
    """
    name = config.lora.model
    prompts = rows[["row_id", "image_path"]].assign(
        question=[
            # Lower case, as the answers of training.
            pack_choices(question, [answer.lower()])
            for question, answer in zip(rows["question"], rows["answer"], strict=True)
        ]
    )
    use_stored = uses_stored(config, adapter)
    images = images_state(config, prompts, checkpoint_key=name, use_stored=use_stored)
    weights = [file_md5(file) for file in sorted(adapter.glob("adapter_*"))]
    key = answers_key("finetune", name, config, prompts, [weights, images])
    with ExitStack() as stack:
        folder = stack.enter_context(locked(scratch("suspects-answers", key)))
        model = MarginModel(load_model(name, config, adapter=adapter))
        source = image_source(
            config, prompts, model, stack, checkpoint_key=name, use_stored=use_stored
        )
        size = checkpoint_of(name, config).batch_size
        return predict_rows(model, prompts, source, folder, size, name), folder
