"""Answers of the fine-tuned model."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from abo_vqa.core.engine.opening import model_needs, open_engine
from abo_vqa.core.errors import UserError
from abo_vqa.core.fingerprints import file_md5
from abo_vqa.core.locks import locked
from abo_vqa.core.paths import ADAPTER, FINETUNED_MODELS
from abo_vqa.core.scratch import scratch
from abo_vqa.models.adapters import Adapter
from abo_vqa.models.answering.images import image_source, images_state
from abo_vqa.models.answering.journal import answers_key, collect
from abo_vqa.models.answering.ranked import ranked_candidates, with_decoding
from abo_vqa.models.answering.runner import BatchAnswerer, answer_rows
from abo_vqa.models.candidates import candidates_for
from abo_vqa.models.registry import checkpoint_of, family_class, load_model

if TYPE_CHECKING:
    from abo_vqa.core.config import Config
    from abo_vqa.models.answers import CandidateAnswers
    from abo_vqa.models.base import VQAModel


@dataclass(frozen=True)
class FinetunedJob:
    """One way in which the fine-tuned model answers rows.

    Attributes:
        name: "finetuned", or "finetuned-ranked".
        candidates: what it chooses among; None for free text.
        folder: the journal's, which the stage removes when it has ended.
    """

    name: str
    candidates: CandidateAnswers | None
    folder: Path

    @classmethod
    def of(cls, name: str, config: Config, test: pd.DataFrame) -> FinetunedJob:
        """Find the candidates and the journal.

        Args:
            name: "finetuned", or "finetuned-ranked".
            config: the settings.
            test: columns row_id, image_path, question.
        """
        candidates = ranked_candidates(name, config)
        weights = [file_md5(file) for file in sorted(ADAPTER.glob("adapter_*"))]
        model, use_stored = config.lora.model, uses_stored(config)
        images = images_state(config, test, checkpoint_key=model, use_stored=use_stored)
        key = answers_key("predict", model, config, test, [weights, candidates, images])
        return cls(name, candidates, scratch(name, key))


class FinetunedWork:
    """Loads the fine-tuned model, once in each process that answers.

    Args:
        config: the settings.
        test: columns row_id, image_path, question.
    """

    def __init__(self, config: Config, test: pd.DataFrame) -> None:
        self._config, self._test = config, test
        self._model: VQAModel | None = None

    def __getstate__(self) -> tuple[Config, pd.DataFrame]:
        return self._config, self._test  # another process loads its own

    def __setstate__(self, state: tuple[Config, pd.DataFrame]) -> None:
        self.__init__(*state)  # type: ignore[misc]

    def make(self, candidates: CandidateAnswers | None) -> BatchAnswerer:
        """Return what answers batches.

        Args:
            candidates: what it chooses among; None for free text.
        """
        config, name, stack = self._config, self._config.lora.model, ExitStack()
        self._model = self._model or load_model(name, config, adapter=ADAPTER)
        images = image_source(
            config,
            self._test,
            self._model,
            stack,
            checkpoint_key=name,
            use_stored=uses_stored(config),
        )
        model = with_decoding(self._model, candidates)
        return BatchAnswerer(model, self._test, images, name, resources=stack)


def predict_finetuned(
    config: Config, test: pd.DataFrame, jobs: Sequence[FinetunedJob]
) -> list[pd.DataFrame]:
    """Answer rows with `lora.model` and the adapter in models/adapter.

    Args:
        config: the settings.
        test: columns row_id, image_path, question.
        jobs: in which ways.

    Returns:
        For each job the columns row_id, prediction, confidence, error.
    """
    checkpoint = checkpoint_of(config.lora.model, config)
    batch_by, needs = family_class(checkpoint).batch_by, model_needs(config)
    work = FinetunedWork(config, test)
    tables = []
    with ExitStack() as stack:
        for job in jobs:
            stack.enter_context(locked(job.folder))
        engine = stack.enter_context(open_engine(config))
        for job in jobs:
            deal = partial(engine.run, partial(work.make, job.candidates), needs=needs)
            answer_rows(deal, test, batch_by, job.folder, checkpoint.batch_size)
            predictions = collect(test, job.folder)
            assert predictions is not None
            tables.append(predictions)
    return tables


def uses_stored(config: Config, adapter: Path = ADAPTER) -> bool:
    """Return whether the stored vision outputs are also those of `lora.model` with an adapter.

    Args:
        config: the settings.
        adapter: the PEFT folder.
    """
    vision_modules = family_class(checkpoint_of(config.lora.model, config)).vision_modules
    return not Adapter.read(adapter).changes_vision(vision_modules)


def stage_of(name: str) -> str:
    """Return the stage whose code answers with a model.

    Args:
        name: a model's name, or "finetuned" or "finetuned-ranked".
    """
    return "predict" if name in FINETUNED_MODELS else "baseline"


def load_by_name(name: str, config: Config, adapter: Path = ADAPTER) -> VQAModel:
    """Load a model by name, ready to answer: with CLIP's candidates, and those of ranked decoding.

    Args:
        name: a model's name, or "finetuned" or "finetuned-ranked".
        config: the settings.
        adapter: the PEFT folder of the fine-tuned model.

    Raises:
        UserError: the model or the adapter can't be loaded.
    """
    ranked = ranked_candidates(name, config)
    if name not in FINETUNED_MODELS:
        candidates = candidates_for(name, config)
        options = {} if candidates is None else {"candidates": candidates}
        return with_decoding(load_model(name, config, **options), ranked)
    if not (adapter / "adapter_config.json").is_file():
        raise UserError(f"no adapter in {adapter}; run the stage `finetune`, or give --adapter.")
    return with_decoding(load_model(config.lora.model, config, adapter=adapter), ranked)
