"""Results of DVC's experiments: from Git (metrics), DVC's cache (scores) and MLflow (seconds)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd
from dvc.repo import Repo

from abo_vqa.core.experiments.collect import Experiment
from abo_vqa.core.experiments.outputs import OutputMissingError, read_parquet
from abo_vqa.core.fingerprints import fingerprint
from abo_vqa.core.log import get_logger
from abo_vqa.core.paths import (
    ADAPTER,
    FINETUNED,
    FINETUNED_MODEL,
    METRICS,
    TRAINING,
    scores_of,
)
from abo_vqa.core.progress import progress_bar
from abo_vqa.evaluation.sweep import SCORE_COLUMNS, SweepRun

logger = get_logger(__name__)

_CODE = ("src/", "conf/", "data/raw/", "models/")  # inputs that no stage writes
_REPORT = ("src/abo_vqa/reporting", "src/abo_vqa/stages/report.py", ADAPTER.as_posix())


def read_runs(
    repo: Repo, experiments: Iterable[Experiment], seconds: Mapping[tuple[str, str], float]
) -> list[SweepRun]:
    """Read the experiments' results.

    Args:
        repo: the repository.
        experiments: finished ones or not.
        seconds: (name, commit) → how long it took.

    Returns:
        One per experiment. What can't be read is None, after a warning.
    """
    runs, every = [], list(experiments)
    with progress_bar(len(every), desc="experiments", unit="experiment", delay=3) as bar:
        for experiment in every:
            spent = seconds.get((experiment.name, experiment.baseline))
            runs.append(_read_run(repo, experiment, spent))
            bar.update()
    return runs


def _read_run(repo: Repo, experiment: Experiment, seconds: float | None) -> SweepRun:
    settings = experiment.settings
    seed = settings.get("lora.seed")
    if seed is None:
        seed = settings.get("seed")
    code = {
        path: digest
        for path, digest in experiment.inputs.items()
        if path.startswith(_CODE) and path not in _REPORT
    }
    if not experiment.finished:
        return SweepRun(experiment, fingerprint(code), seed, seconds=seconds)
    training = experiment.metrics.get(TRAINING.as_posix(), {})
    scores = _read_scores(repo, experiment)
    return SweepRun(
        experiment,
        fingerprint(code),
        seed,
        validation=training.get("best_validation_accuracy"),
        test=_test_accuracy(experiment, scores),
        scores=scores,
        seconds=seconds,
    )


def _evaluated(experiment: Experiment) -> bool:
    """Whether the test results are those of the adapter that the experiment trained."""
    return all(experiment.is_current(path.as_posix()) for path in (ADAPTER, FINETUNED))


def _test_accuracy(experiment: Experiment, scores: pd.DataFrame | None) -> float | None:
    if scores is not None:
        return float(scores["accuracy"].mean())
    if not _evaluated(experiment):
        return None
    value = experiment.metrics.get(METRICS.as_posix(), {}).get(f"{FINETUNED_MODEL}.accuracy")
    return None if value is None else float(value)


def _read_scores(repo: Repo, experiment: Experiment) -> pd.DataFrame | None:
    """The fine-tuned model's scores of the test rows; None if there are none, or not any more."""
    if not _evaluated(experiment):
        logger.warning(f"{experiment.name} ended before its test results: only validation is shown")
        return None
    try:
        return read_parquet(repo, experiment.rev, scores_of(FINETUNED_MODEL), SCORE_COLUMNS)
    except OutputMissingError as error:
        logger.warning(f"{experiment.name} is left out of the comparison: can't read {error}")
        return None
