"""Stages, run as `abo_vqa.core.stage.execute` runs them, but without MLflow."""

from types import ModuleType
from typing import Any

import pandas as pd

from abo_vqa.core.config import Config
from abo_vqa.core.paths import FINETUNED_MODEL
from abo_vqa.core.summary import Log, Summary, no_log
from abo_vqa.models.answering.finetuned import FinetunedJob, predict_finetuned


def run_stage(stage: ModuleType, config: Config, log: Log = no_log, **options: Any) -> Summary:
    """Run a stage's module, and clean up after it."""
    summary: Summary = stage.run(config, log, **options)
    summary.cleanup()
    return summary


def answer_with_adapter(config: Config, rows: pd.DataFrame) -> pd.DataFrame:
    """Answer rows with the fine-tuned model, in the journal that the stage would use."""
    [answers] = predict_finetuned(config, rows, [FinetunedJob.of(FINETUNED_MODEL, config, rows)])
    return answers
