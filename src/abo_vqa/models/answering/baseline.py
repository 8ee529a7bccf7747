"""A baseline's answers to every row, in the study's sampling order."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from abo_vqa.core.errors import UserError
from abo_vqa.core.locks import discard, locked
from abo_vqa.core.memory import peak_memory
from abo_vqa.core.paths import VQA, predictions_of
from abo_vqa.core.processes import (
    failed_elsewhere,
    rank_and_world_size,
    sigterm_as_exit,
    stop_with_parent,
)
from abo_vqa.core.scratch import scratch
from abo_vqa.core.summary import Summary
from abo_vqa.core.tables import read_table, write_table
from abo_vqa.models.answering.images import image_source, images_state
from abo_vqa.models.answering.journal import answers_key, collect
from abo_vqa.models.answering.runner import answer_rows
from abo_vqa.models.answering.sampling import sample_rows
from abo_vqa.models.candidates import candidates_for
from abo_vqa.models.registry import checkpoint_key, checkpoint_of, load_model

if TYPE_CHECKING:
    from abo_vqa.core.config import Config


@dataclass(frozen=True)
class Job:
    """What a baseline has to answer.

    Attributes:
        rows: columns row_id, image_path, question.
        options: keyword arguments of `load_model`.
        folder: the journal's folder.
    """

    rows: pd.DataFrame
    options: dict[str, Any]
    folder: Path

    @classmethod
    def of(cls, name: str, config: Config) -> Job:
        """Read the rows and the candidates of a model.

        Args:
            name: the model's name.
            config: the settings.
        """
        table = read_table(VQA, ["image_path", "question"])
        rows = sample_rows(table, config.seed, config.baselines.fraction)
        candidates = candidates_for(name, config)
        options = {} if candidates is None else {"candidates": candidates}
        more = [options, images_state(name, config, rows)]
        folder = scratch(f"baseline-{name}", answers_key(name, config, rows, more))
        return cls(rows, options, folder)


def answer_share(name: str, config: Config, job: Job) -> tuple[dict[str, Any], dict[str, float]]:
    """Answer this process's share of the rows into the journal.

    Args:
        name: the model's name.
        config: the settings.
        job: what to answer.

    Returns:
        The model's record, and measurements: `load_seconds` and, on a GPU, `peak_gpu_bytes`.
    """
    start = time.perf_counter()
    model = load_model(name, config, **job.options)
    metrics = {"load_seconds": time.perf_counter() - start}
    rank, world = rank_and_world_size()
    with ExitStack() as stack:
        images = image_source(name, config, job.rows, model, stack)
        size = checkpoint_of(name, config).batch_size
        answer_rows(model, job.rows, images, job.folder, size, rank, world, checkpoint_key(name))
    if model.device.type == "cuda":
        metrics["peak_gpu_bytes"] = float(peak_memory(model.device))
    return model.record(), metrics


def answer_all(name: str, config: Config) -> Summary:
    """Write reports/baselines/<name>/predictions.csv; the summary's cleanup removes the journal.

    With several processes, this is the first one: it answers its share and waits for the others'.

    Args:
        name: the model's name.
        config: the settings.

    Raises:
        UserError: the model can't be loaded, memory isn't sufficient, or another process stopped.
    """
    start = time.perf_counter()
    job = Job.of(name, config)
    record: dict[str, Any] = {}
    metrics: dict[str, float] = {}
    with locked(job.folder):
        if collect(job.rows, job.folder) is None:
            record, metrics = answer_share(name, config, job)
        while (predictions := collect(job.rows, job.folder)) is None:
            if failed_elsewhere():
                raise UserError(f"{name}: some rows are missing, whose process stopped.")
            time.sleep(1)
    out = write_table(predictions, predictions_of(name))
    failed = int((predictions["error"] != "").sum())
    rows = len(predictions)
    return Summary(
        f"{name}: {rows} rows → {out}" + (f"; {failed} without an answer" if failed else ""),
        metrics={
            "rows": rows,
            "failed": failed,
            "empty": int((predictions["prediction"] == "").sum()) - failed,
            "rows_per_second": rows / (time.perf_counter() - start),
            **metrics,
        },
        params=record,
        datasets={"questions": VQA},
        artifacts=(out,),
        cleanup=partial(discard, job.folder),
    )


def answer_as_helper(name: str, config: Config) -> None:
    """Answer the share of a process other than the first one.

    Args:
        name: the model's name.
        config: the settings.
    """
    job = Job.of(name, config)
    with sigterm_as_exit(), stop_with_parent(), locked(job.folder, rank_and_world_size()[0]):
        if collect(job.rows, job.folder) is None:
            answer_share(name, config, job)
