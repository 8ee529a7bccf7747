"""Stages, run as `abo_vqa.core.stage.execute` runs them, but without MLflow."""

from types import ModuleType
from typing import Any

from abo_vqa.config import Config
from abo_vqa.core.summary import Log, Summary, no_log


def run_stage(stage: ModuleType, config: Config, log: Log = no_log, **options: Any) -> Summary:
    """Run a stage's module, and clean up after it."""
    summary: Summary = stage.run(config, log, **options)
    summary.cleanup()
    return summary
