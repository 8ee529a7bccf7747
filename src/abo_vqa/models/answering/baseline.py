"""A baseline's answers to every row, in the study's sampling order."""

from __future__ import annotations

import time
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from abo_vqa.core.engine.local import LocalEngine
from abo_vqa.core.engine.opening import model_needs, open_engine
from abo_vqa.core.locks import locked
from abo_vqa.core.scratch import scratch
from abo_vqa.models.answering.images import image_source, images_state
from abo_vqa.models.answering.journal import Journal, answers_key, collect
from abo_vqa.models.answering.ranked import ranked_candidates, with_decoding
from abo_vqa.models.answering.runner import AnsweredBatch, BatchAnswerer, answer_rows
from abo_vqa.models.answering.sampling import sample_rows
from abo_vqa.models.candidates import candidates_for
from abo_vqa.models.registry import checkpoint_key, checkpoint_of, family_class, load_model

if TYPE_CHECKING:
    from abo_vqa.core.config import Config
    from abo_vqa.models.answers import CandidateAnswers

# The baseline that answers from stored vision outputs. Others could, but would then be asked again
# whenever another model is chosen for training, whose outputs alone the stage `embed` computes.
_EMBEDDED = "blip"


@dataclass(frozen=True)
class BaselineJob:
    """What a baseline has to answer.

    Attributes:
        name: the model's name.
        rows: columns row_id, image_path, question.
        options: keyword arguments of `load_model`.
        candidates: what it chooses among if its decoding is `ranked`, else None.
        folder: the journal's folder.
        use_stored: whether it answers from stored vision outputs where there are some.
    """

    name: str
    rows: pd.DataFrame
    options: dict[str, Any]
    candidates: CandidateAnswers | None
    folder: Path
    use_stored: bool

    @classmethod
    def of(cls, name: str, config: Config, table: pd.DataFrame) -> BaselineJob:
        """Choose the rows, and read the candidates of a model.

        Args:
            name: the model's name.
            config: the settings.
            table: columns image_path and question.
        """
        rows = sample_rows(table, config.seed, config.baselines.fraction)
        return cls.about(rows, name, config, stage="baseline", use_stored=name == _EMBEDDED)

    @classmethod
    def about(
        cls,
        rows: pd.DataFrame,
        name: str,
        config: Config,
        *,
        stage: str,
        use_stored: bool,
        ranked: bool = True,
    ) -> BaselineJob:
        """Read the candidates of a model that is to answer these rows.

        Args:
            rows: columns row_id, image_path, question.
            name: the model's name.
            config: the settings.
            stage: whose answers they are: stages don't share journals.
            use_stored: see the class.
            ranked: False for free text, whatever the model's decoding is.
        """
        candidates = candidates_for(name, config)
        options = {} if candidates is None else {"candidates": candidates}
        known = ranked_candidates(name, config) if ranked else None
        state = images_state(
            config, rows, checkpoint_key=checkpoint_key(name), use_stored=use_stored
        )
        more = [options, known, state]
        key = answers_key(stage, name, config, rows, more)
        folder = scratch(f"{stage}-{name}", key)
        return cls(name, rows, options, known, folder, use_stored)


@dataclass(frozen=True)
class BaselineResult:
    """A baseline's answers.

    Attributes:
        predictions: columns row_id, prediction, confidence, error.
        record: what the answers depend on; empty if an earlier run has answered all rows.
        metrics: `rows_per_second` and `load_seconds`, if this run has answered some rows, and
            `peak_gpu_bytes` on a GPU.
    """

    predictions: pd.DataFrame
    record: dict[str, Any]
    metrics: dict[str, float]


def answering_work(config: Config, job: BaselineJob) -> BatchAnswerer:
    """Load the model and open the images, in whichever process answers.

    Args:
        config: the settings.
        job: what to answer.
    """
    start = time.perf_counter()
    model = with_decoding(load_model(job.name, config, **job.options), job.candidates)
    metrics = {"load_seconds": time.perf_counter() - start}
    key, stack = checkpoint_key(job.name), ExitStack()
    images = image_source(
        config, job.rows, model, stack, checkpoint_key=key, use_stored=job.use_stored
    )
    return BatchAnswerer(model, job.rows, images, key, metrics, stack)


def answer_all(config: Config, job: BaselineJob) -> BaselineResult:
    """Answer all rows, except those already in the journal.

    Args:
        config: the settings.
        job: what to answer.

    Raises:
        UserError: the model can't be loaded, or memory isn't sufficient.
    """
    start = time.perf_counter()
    record: dict[str, Any] = {}
    metrics: dict[str, float] = {}
    with locked(job.folder):
        before = len(Journal(job.folder).read())
        if (predictions := collect(job.rows, job.folder)) is None:
            latest = _answer_missing(config, job)
            record, metrics = dict(latest.record), dict(latest.metrics)
            predictions = collect(job.rows, job.folder)
            assert predictions is not None
    if answered := len(predictions) - before:
        metrics["rows_per_second"] = answered / (time.perf_counter() - start)
    return BaselineResult(predictions, record, metrics)


def _answer_missing(config: Config, job: BaselineJob) -> AnsweredBatch:
    """Have the engine answer what is missing; return the last batch."""
    checkpoint = checkpoint_of(job.name, config)
    batch_by = "image" if job.candidates else family_class(checkpoint).batch_by
    # Requests to a service wait for it, not for a processor: one process sends them all, so that
    # there is one journal, one record of the quota and one budget.
    with nullcontext(LocalEngine()) if checkpoint.endpoint else open_engine(config) as engine:
        deal = partial(engine.run, partial(answering_work, config, job), needs=model_needs(config))
        latest = answer_rows(deal, job.rows, batch_by, job.folder, checkpoint.batch_size)
    assert latest is not None
    return latest
