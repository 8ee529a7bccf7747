"""The trials of `abo-vqa tune`, from MLflow: settings and validation, without a test."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml
from mlflow.entities import Run

from abo_vqa.core.experiments.collect import Experiment, ExperimentState, as_number
from abo_vqa.core.experiments.runs import find_runs

_COMMIT = "mlflow.source.git.commit"
_SETTINGS = "lora."  # what a search varies


@dataclass(frozen=True)
class SearchTrial:
    """A trial that has ended.

    Attributes:
        experiment: as if it were one of DVC's; what wasn't searched is as in its commit.
        validation: the best epoch's accuracy on the held-out rows; None for one that was pruned.
        seconds: how long it took.
    """

    experiment: Experiment
    validation: float | None
    seconds: float


def collect_trials(experiment: str, commits: list[Experiment]) -> list[SearchTrial]:
    """List the trials that searches ran on some commits.

    Args:
        experiment: MLflow's experiment.
        commits: the commits, as `collect_experiments` returns them.

    Raises:
        UserError: MLflow can't be reached.
    """
    parents = find_runs(experiment, "tags.`abo_vqa.invocation` LIKE 'tune:%'")
    return [
        trial
        for parent in parents
        for trial in _trials(experiment, parent, {commit.rev: commit for commit in commits})
    ]


def _trials(experiment: str, parent: Run, commits: dict[str, Experiment]) -> Iterator[SearchTrial]:
    for run in find_runs(experiment, f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"):
        commit = commits.get(run.data.tags.get(_COMMIT, ""))
        if commit is None or run.info.status != "FINISHED":
            continue
        searched = {
            name: as_number(yaml.safe_load(text))  # a list, a boolean, a word
            for name, text in run.data.params.items()
            if name.startswith(_SETTINGS)
        }
        settings: dict[str, Any] = {**commit.settings, **searched}
        name = run.info.run_name.replace(" ", "-")
        state: ExperimentState = "pruned" if "pruned" in run.data.params else "trial"
        yield SearchTrial(
            Experiment(name, run.info.run_id, commit.rev, state, settings),
            run.data.metrics.get("best_validation_accuracy"),
            (run.info.end_time - run.info.start_time) / 1000,
        )
