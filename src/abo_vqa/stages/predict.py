"""Stage `predict`: the fine-tuned model's answers to the test rows, free and ranked.

A stage of its own, so that another number of resamples repeats no inference.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial

from abo_vqa.core.config import Config, load_config
from abo_vqa.core.locks import discard
from abo_vqa.core.paths import ADAPTER, FINETUNED_MODEL, FINETUNED_MODELS, TEST, predictions_of
from abo_vqa.core.stage import execute
from abo_vqa.core.summary import Log, Summary, no_log
from abo_vqa.core.tables import read_table, table_columns, write_table
from abo_vqa.data.answer_sample import answer_sample
from abo_vqa.models.answering.finetuned import FinetunedJob, predict_finetuned


def run(config: Config, _log: Log = no_log) -> Summary:
    """Write reports/finetuned/predictions.csv, and ranked.csv if `ranking.finetuned` is set.

    Args:
        config: the settings.
    """
    columns = ["row_id", "image_path", "question"]
    columns += {"answer"}.intersection(table_columns(TEST))
    test = read_table(TEST, columns=columns)
    names = FINETUNED_MODELS if config.ranking.finetuned else (FINETUNED_MODEL,)
    jobs = [FinetunedJob.of(name, config, test) for name in names]
    for name in set(FINETUNED_MODELS) - set(names):
        predictions_of(name).unlink(missing_ok=True)
    lines, metrics, artifacts = [], {"rows": float(len(test))}, []
    tables = {}
    for job, predictions in zip(jobs, predict_finetuned(config, test, jobs), strict=True):
        out = write_table(predictions, predictions_of(job.name))
        failed = int((predictions["error"] != "").sum())
        lines.append(
            f"{job.name}: {len(predictions)} rows → {out}"
            + (f"; {failed} without an answer" if failed else "")
        )
        metrics["failed" if job.candidates is None else "ranked_failed"] = failed
        artifacts.append(out)
        tables[f"answers_{job.name}"] = answer_sample(test, predictions)
    return Summary(
        "\n".join(lines),
        metrics=metrics,
        params={"adapter": str(ADAPTER)},
        datasets={"testing": TEST},
        artifacts=tuple(artifacts),
        tables=tables,
        cleanup=partial(_discard_journals, jobs),
    )


def _discard_journals(jobs: Sequence[FinetunedJob]) -> None:
    for job in jobs:
        discard(job.folder)


def command(_args: argparse.Namespace) -> int:
    """Run the stage.

    Returns:
        The exit code.
    """
    config = load_config()
    print(execute("predict", run, config, checkpoint=config.lora.model))
    return 0
