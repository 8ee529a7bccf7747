"""Hyperparameter search with Optuna."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.trial import FixedTrial, TrialState

from abo_vqa.core.config import Config
from abo_vqa.core.errors import TerminatedError, UserError
from abo_vqa.core.fingerprints import file_md5, fingerprint
from abo_vqa.core.locks import discard
from abo_vqa.core.paths import TRAIN
from abo_vqa.core.scratch import scratch
from abo_vqa.core.summary import Summary
from abo_vqa.core.tracking.backend import sqlite_uri
from abo_vqa.core.tracking.runs import Tracker, track_trial
from abo_vqa.training import run
from abo_vqa.training.step import NonFiniteLossError

_RANGE = 10.0  # the learning rate is searched from lora.lr / 10 to lora.lr * 10
_ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


def suggest_settings(trial: optuna.trial.BaseTrial, config: Config) -> dict[str, Any]:
    """Return a trial's settings of params.yaml, from the search space."""
    rank = trial.suggest_categorical("r", [4, 8, 16, 32])
    low, high = config.lora.lr / _RANGE, min(config.lora.lr * _RANGE, 0.5)
    return {
        "lora.r": rank,
        "lora.alpha": rank * trial.suggest_categorical("alpha_by_r", [1, 2]),
        "lora.lr": trial.suggest_float("lr", low, high, log=True),
        "lora.dropout": trial.suggest_categorical("dropout", [0.0, 0.05, 0.1]),
    }


def _with_settings(config: Config, settings: Mapping[str, Any]) -> Config:
    """The configuration with some of `lora`'s settings replaced."""
    changed = {name.removeprefix("lora."): value for name, value in settings.items()}
    lora = type(config.lora).model_validate(config.lora.model_dump() | changed)
    return config.model_copy(update={"lora": lora})


def _run_trial(trial: optuna.Trial, config: Config, name: str) -> float:
    """Train once with suggested settings; return the best validation accuracy.

    Raises:
        optuna.TrialPruned: an epoch was below the median, or the loss wasn't a finite number.
        TerminatedError: SIGTERM; the trial is queued again and resumes from its checkpoint.
        OSError: the system refused a file, e.g. on a full disk; likewise.
    """
    settings = suggest_settings(trial, config)
    pruned: Exception | None = None
    with track_trial(name, settings, config, trial.number, checkpoint=config.lora.model) as tracker:
        try:
            accuracy = _train_trial(trial, _with_settings(config, settings), tracker)
        except (optuna.TrialPruned, NonFiniteLossError) as error:
            # Without the file of the rows, which is removed with the trial's checkpoints.
            reason = getattr(error, "reason", "below the median")
            tracker.finish(Summary(f"pruned: {reason}", params={"pruned": reason}))
            pruned = error  # raised below, after the MLflow run has ended normally
        except (TerminatedError, OSError, SystemExit, KeyboardInterrupt):
            trial.study.enqueue_trial(trial.params)
            raise
        else:
            _record_trial(tracker, trial, settings, accuracy)
    if pruned is not None:
        raise optuna.TrialPruned(reason) from pruned
    return accuracy


def _train_trial(trial: optuna.Trial, config: Config, tracker: Tracker) -> float:
    """Train with a trial's settings, reporting each epoch to Optuna, which may prune it."""

    def track(metrics: Mapping[str, float], step: int) -> None:
        tracker.log(metrics, step)
        if "validation_accuracy" in metrics:
            trial.report(metrics["validation_accuracy"], step)
            if trial.should_prune():
                raise optuna.TrialPruned

    with run.locked_checkpoints(config) as folder:
        return float(run.train(config, folder, track).history.best_accuracy)


def _record_trial(
    tracker: Tracker, trial: optuna.Trial, settings: Mapping[str, Any], accuracy: float
) -> None:
    """Log a trial's result; the best one so far is tagged on the search's own run as well."""
    metrics = {"best_validation_accuracy": accuracy}
    completed = trial.study.get_trials(states=(TrialState.COMPLETE,))
    if all(accuracy > (other.value or 0.0) for other in completed):
        tracker.finish(
            Summary(f"{accuracy:.3f}, the best so far", metrics=metrics, headline=metrics)
        )
        best = {"best_trial": str(trial.number)}
        tracker.tag(best | {f"best.{k}": str(v) for k, v in settings.items()}, to_parent=True)
    else:
        tracker.finish(Summary(f"{accuracy:.3f}", metrics=metrics))


def _discard_checkpoints(
    _study: optuna.Study, trial: optuna.trial.FrozenTrial, config: Config
) -> None:
    """Remove a trial's checkpoints once the study holds its result."""
    discard(run.checkpoint_folder(_with_settings(config, suggest_settings(trial, config))))


def open_study(config: Config, name: str, folder: Path) -> optuna.Study:
    """Open the study as an earlier search left it, or create it; queue killed trials again.

    Args:
        config: its seed is the sampler's.
        name: the study's name.
        folder: where its database is.
    """
    study = optuna.create_study(
        study_name=name,
        storage=sqlite_uri(folder / "study.db"),
        direction="maximize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=1),
    )
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.enqueue_trial(trial.params)
        study.tell(trial.number, state=TrialState.FAIL)
    # The same seed again would draw the first trials again.
    study.sampler = optuna.samplers.TPESampler(seed=config.seed + len(study.trials))
    return study


def search_hyperparameters(config: Config, trials: int) -> tuple[float, dict[str, Any], int]:
    """Bring the study to `trials` completed or pruned trials.

    Returns:
        The best validation accuracy, its settings, and how many trials were pruned.

    Raises:
        UserError: another search with these settings is running, or no trial was completed.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    settings = config.model_dump(mode="json", exclude={"report", "tracking"})
    name = fingerprint([settings, file_md5(TRAIN)])
    folder = scratch("tune", name)
    try:
        with FileLock(folder / "lock", timeout=0):
            study = open_study(config, name, folder)
            remaining = trials - len(study.get_trials(states=_ENDED))
            if remaining > 0:
                study.optimize(
                    partial(_run_trial, config=config, name=name),
                    n_trials=remaining,
                    callbacks=[partial(_discard_checkpoints, config=config)],
                )
    except Timeout as error:
        raise UserError(f"another search with these settings is running ({folder}).") from error
    pruned = len(study.get_trials(states=(TrialState.PRUNED,)))
    if pruned == len(study.get_trials(states=_ENDED)):
        raise UserError(
            f"none of the {pruned} trials finished: their losses weren't finite. "
            "Search around a smaller lora.lr."
        )
    return study.best_value, suggest_settings(FixedTrial(study.best_params), config), pruned


def dvc_command(settings: Mapping[str, Any]) -> str:
    """Return the command that runs the pipeline with settings, exact to the last digit."""
    return " ".join(["dvc exp run", *(f"-S {name}={value}" for name, value in settings.items())])
