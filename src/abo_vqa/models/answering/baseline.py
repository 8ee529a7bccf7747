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
from abo_vqa.core.json_files import write_json
from abo_vqa.core.locks import discard, locked
from abo_vqa.core.memory import peak_memory
from abo_vqa.core.processes import rank_and_world, refused
from abo_vqa.core.scratch import scratch
from abo_vqa.core.summary import Summary
from abo_vqa.core.tables import read_table, write_table
from abo_vqa.models.answering.journal import collect, journal_key
from abo_vqa.models.answering.pictures import pictures_for, pictures_state
from abo_vqa.models.answering.runner import answer_rows
from abo_vqa.models.candidates import candidates_for
from abo_vqa.models.registry import checkpoint_of, load_model, weights_key

if TYPE_CHECKING:
    from abo_vqa.config import Config
from abo_vqa.core.paths import BLIND, TRAIN, VQA, predictions_of


def sampled(table: pd.DataFrame, seed: int, fraction: float) -> pd.DataFrame:
    """Rows in one random order, of which any smaller fraction is a prefix.

    Returns:
        Columns row_id (0-based position in `table`), image_path, question.
    """
    rows = table[["image_path", "question"]].copy()
    rows.insert(0, "row_id", range(len(rows)))
    shuffled = rows.sample(frac=1, random_state=seed)
    return shuffled.head(int(len(rows) * fraction)).reset_index(drop=True)


def answer_share(name: str, config: Config, job: Job) -> tuple[dict[str, Any], dict[str, float]]:
    """Answer this process's share of the rows into the journal.

    Returns:
        The model's record; how long loading it took; and, on a GPU, the bytes of its memory that
        were held at most.
    """
    began = time.perf_counter()
    model = load_model(name, config, **job.options)
    found = {"load_seconds": time.perf_counter() - began}
    rank, world = rank_and_world()
    with ExitStack() as stack:
        pictures = pictures_for(name, config, job.rows, model, stack)
        size = checkpoint_of(name, config).batch_size
        answer_rows(model, job.rows, pictures, job.folder, size, rank, world, weights_key(name))
    if model.device.type == "cuda":
        found["peak_gpu_bytes"] = float(peak_memory(model.device))
    return model.record(), found


@dataclass(frozen=True)
class Job:
    """What a baseline has to answer, and where its journals are."""

    rows: pd.DataFrame
    options: dict[str, Any]
    folder: Path

    @classmethod
    def of(cls, name: str, config: Config) -> Job:
        table = read_table(VQA, ["image_path", "question"])
        rows = sampled(table, config.seed, config.baselines.fraction)
        candidates = candidates_for(name, config)
        options = {} if candidates is None else {"candidates": candidates}
        more = [options, pictures_state(name, config, rows)]
        folder = scratch(f"baseline-{name}", journal_key(name, config, rows, more))
        return cls(rows, options, folder)


def answer_all(name: str, config: Config) -> Summary:
    """`run_model`, with the journal left to the summary's cleanup.

    With several processes, this is the first one: it does its share and waits for the others'.
    """
    began = time.perf_counter()
    job = Job.of(name, config)
    record: dict[str, Any] = {}
    measured: dict[str, float] = {}
    with locked(job.folder):
        if collect(job.rows, job.folder) is None:
            record, measured = answer_share(name, config, job)
        while (predictions := collect(job.rows, job.folder)) is None:
            if refused():
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
            "rows_per_second": rows / (time.perf_counter() - began),
            **measured,
        },
        params=record,
        datasets={"questions": VQA},
        artifacts=(out,),
        cleanup=partial(discard, job.folder),
    )


def run_blind(config: Config) -> Summary:
    """Write reports/baselines/blind/<variant>/predictions.csv for each blind baseline."""
    from abo_vqa.models.blind.baselines import VARIANTS, ended, one_spelling

    rows = sampled(
        read_table(VQA, ["image_path", "question"]), config.seed, config.baselines.fraction
    )
    train = read_table(TRAIN, ["question", "answer"])
    questions, answers = one_spelling(train["question"].tolist(), train["answer"].tolist())
    if not answers:
        raise UserError(f"{TRAIN} has no answer to learn from. Run `dvc repro split`.")
    written: list[Path] = []
    fits: dict[str, dict[str, bool]] = {}
    for variant, fit in VARIANTS.items():
        predictor = fit(questions, answers)
        fits[variant] = {"ended": ended(predictor)}
        said, confidence = predictor(rows["question"].tolist())
        table = pd.DataFrame(
            {
                "row_id": rows["row_id"],
                "prediction": said,
                "confidence": [f"{c:.6f}" for c in confidence],
                "error": "",
            }
        )
        written.append(write_table(table, BLIND / variant / "predictions.csv"))
    written.append(write_json(fits, BLIND / "fits.json"))
    unfinished = [variant for variant, found in fits.items() if not found["ended"]]
    said_more = f"\nunfinished fits: {', '.join(unfinished)}" if unfinished else ""
    return Summary(
        f"blind: {len(rows)} rows → {BLIND}/{{{','.join(VARIANTS)}}}{said_more}",
        metrics={"rows": len(rows)},
        params={"fitted_on": str(TRAIN), "unfinished_fits": ", ".join(unfinished) or "none"},
        datasets={"training": TRAIN},
        artifacts=tuple(written),
    )
