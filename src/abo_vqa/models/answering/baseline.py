"""A baseline's answers to every row, in the study's sampling order."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from abo_vqa.core.errors import UserError
from abo_vqa.core.locks import locked
from abo_vqa.core.memory import peak_memory
from abo_vqa.core.processes import (
    failed_elsewhere,
    rank_and_world_size,
    sigterm_as_exit,
    stop_with_parent,
)
from abo_vqa.core.scratch import scratch
from abo_vqa.models.answering.images import image_source, images_state
from abo_vqa.models.answering.journal import Journal, answers_key, collect
from abo_vqa.models.answering.ranked import ranked_candidates, with_decoding
from abo_vqa.models.answering.runner import answer_rows
from abo_vqa.models.answering.sampling import sample_rows
from abo_vqa.models.candidates import candidates_for
from abo_vqa.models.registry import checkpoint_key, checkpoint_of, load_model

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


def _answer_share(config: Config, job: BaselineJob) -> tuple[dict[str, Any], dict[str, float]]:
    """Answer this process's share of the rows into the journal.

    Returns:
        The model's record, and measurements: `load_seconds` and, on a GPU, `peak_gpu_bytes`.
    """
    start = time.perf_counter()
    model = with_decoding(load_model(job.name, config, **job.options), job.candidates)
    metrics = {"load_seconds": time.perf_counter() - start}
    key, size = checkpoint_key(job.name), checkpoint_of(job.name, config).batch_size
    rank, world_size = rank_and_world_size()
    with ExitStack() as stack:
        images = image_source(
            config,
            job.rows,
            model,
            stack,
            checkpoint_key=key,
            use_stored=job.use_stored,
        )
        answer_rows(model, job.rows, images, job.folder, size, key, rank, world_size)
    if model.device.type == "cuda":
        metrics["peak_gpu_bytes"] = float(peak_memory(model.device))
    return model.record(), metrics


def answer_all(config: Config, job: BaselineJob) -> BaselineResult:
    """Answer all rows, except those already in the journal.

    With several processes, this is the first one: it answers its share and waits for the others'.

    Args:
        config: the settings.
        job: what to answer.

    Raises:
        UserError: the model can't be loaded, memory isn't sufficient, or another process stopped.
    """
    start = time.perf_counter()
    record: dict[str, Any] = {}
    metrics: dict[str, float] = {}
    with locked(job.folder):
        before = len(Journal(job.folder).read())
        if collect(job.rows, job.folder) is None:
            record, metrics = _answer_share(config, job)
        while (predictions := collect(job.rows, job.folder)) is None:
            if failed_elsewhere():
                raise UserError(
                    f"{job.name}: some rows are missing because another process stopped."
                )
            time.sleep(1)
    if answered := len(predictions) - before:
        metrics["rows_per_second"] = answered / (time.perf_counter() - start)
    return BaselineResult(predictions, record, metrics)


def answer_as_worker(config: Config, job: BaselineJob) -> None:
    """Answer the share of a process other than the first one.

    Args:
        config: the settings.
        job: what to answer.
    """
    with sigterm_as_exit(), stop_with_parent(), locked(job.folder, rank_and_world_size()[0]):
        if collect(job.rows, job.folder) is None:
            _answer_share(config, job)
