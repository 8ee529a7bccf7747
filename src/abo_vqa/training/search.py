"""Hyperparameter search with Optuna."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abo_vqa.config import Config
from abo_vqa.core.errors import TerminatedError, UserError
from abo_vqa.core.fingerprints import file_md5, fingerprint
from abo_vqa.core.locks import discard
from abo_vqa.core.paths import TRAIN
from abo_vqa.core.scratch import scratch
from abo_vqa.core.summary import Summary
from abo_vqa.core.tracking import Tracker, track_trial
from abo_vqa.core.tracking.backend import sqlite_uri

if TYPE_CHECKING:
    import optuna


_WIDE = 10.0  # the learning rate is searched from lora.lr / WIDE to lora.lr * WIDE


def suggest(trial: optuna.trial.BaseTrial, config: Config) -> dict[str, Any]:
    """The space that is searched, as settings of params.yaml."""
    rank = trial.suggest_categorical("r", [4, 8, 16, 32])
    low, high = config.lora.lr / _WIDE, min(config.lora.lr * _WIDE, 0.5)
    return {
        "lora.r": rank,
        "lora.alpha": rank * trial.suggest_categorical("alpha_by_r", [1, 2]),
        "lora.lr": trial.suggest_float("lr", low, high, log=True),
        "lora.dropout": trial.suggest_categorical("dropout", [0.0, 0.05, 0.1]),
    }


def _with_settings(config: Config, chosen: Mapping[str, Any]) -> Config:
    """The configuration with some of `lora`'s settings replaced."""
    changed = {name.removeprefix("lora."): value for name, value in chosen.items()}
    lora = type(config.lora).model_validate(config.lora.model_dump() | changed)
    return config.model_copy(update={"lora": lora})


def _run_trial(trial: optuna.Trial, config: Config, name: str) -> float:
    """Train once with suggested settings; returns the best held-out accuracy.

    Raises:
        optuna.TrialPruned: an epoch was below the median, or the loss wasn't a number.
        Reclaimed: SIGTERM; the trial is queued again and goes on from its checkpoint.
        OSError: the system refused a file, e.g. since the disk is full; likewise.
    """
    import optuna

    from abo_vqa.training import run
    from abo_vqa.training.loop import NonFiniteLossError

    chosen = suggest(trial, config)
    stopped: Exception | None = None
    with track_trial(name, chosen, config, trial.number) as tracker:

        def watch(metrics: Mapping[str, float], step: int) -> None:
            tracker.log(metrics, step)
            if "validation_accuracy" in metrics:
                trial.report(metrics["validation_accuracy"], step)
                if trial.should_prune():
                    raise optuna.TrialPruned

        tried = _with_settings(config, chosen)
        try:
            with run.journal(tried):
                trained = run.train(tried, watch)
        except (optuna.TrialPruned, NonFiniteLossError) as why:
            reason = str(why) or "below the median"
            tracker.finish(Summary(f"pruned: {reason}", params={"pruned": reason}))
            stopped = why  # told to Optuna below: the run has ended as it should
        except (TerminatedError, OSError, SystemExit, KeyboardInterrupt):
            trial.study.enqueue_trial(trial.params)
            raise
        else:
            best = float(trained.history.best_accuracy)
            _record_trial(tracker, trial, chosen, best)
    if stopped is not None:
        raise optuna.TrialPruned(str(stopped)) from stopped
    return best


def _record_trial(
    tracker: Tracker, trial: optuna.Trial, chosen: Mapping[str, Any], accuracy: float
) -> None:
    """Log a trial's result; the best so far is told on the search's own run as well."""
    from optuna.trial import TrialState

    found = {"best_validation_accuracy": accuracy}
    ended = trial.study.get_trials(states=(TrialState.COMPLETE,))
    if all(accuracy > (other.value or 0.0) for other in ended):
        tracker.finish(Summary(f"{accuracy:.3f}, the best so far", metrics=found, headline=found))
        best = {"best_trial": str(trial.number)}
        tracker.tag(best | {f"best.{k}": str(v) for k, v in chosen.items()}, to_parent=True)
    else:
        tracker.finish(Summary(f"{accuracy:.3f}", metrics=found))


def _forget(study: optuna.Study, trial: optuna.trial.FrozenTrial, config: Config) -> None:
    """Remove a trial's checkpoints once the study holds its result."""
    from abo_vqa.training.run import journal_folder

    discard(journal_folder(_with_settings(config, suggest(trial, config))))


def open_study(config: Config, name: str, folder: Path) -> optuna.Study:
    """The study as an earlier search left it; a trial that was killed is queued again."""
    import optuna
    from optuna.trial import TrialState

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


def search(config: Config, trials: int) -> tuple[float, dict[str, Any], int]:
    """Bring the study to `trials` ended trials.

    Returns:
        The best held-out accuracy, its settings, and how many trials were pruned.
    """
    from filelock import FileLock, Timeout
    from optuna.trial import FixedTrial, TrialState

    name = fingerprint([config.model_dump(mode="json", exclude={"report", "tracking"}),
                        file_md5(TRAIN)])  # fmt: skip
    folder = scratch("tune", name)
    try:
        with FileLock(folder / "lock", timeout=0):
            study = open_study(config, name, folder)
            ended = (TrialState.COMPLETE, TrialState.PRUNED)
            left = trials - len(study.get_trials(states=ended))
            if left > 0:
                study.optimize(
                    lambda trial: _run_trial(trial, config, name),
                    n_trials=left,
                    callbacks=[partial(_forget, config=config)],
                )
    except Timeout as error:
        raise UserError(f"another search with these settings is running ({folder}).") from error
    pruned = len(study.get_trials(states=(TrialState.PRUNED,)))
    if pruned == len(study.get_trials(states=ended)):
        raise UserError(
            f"none of {pruned} trials came to an end: their losses weren't numbers. "
            "Search around a smaller lora.lr."
        )
    return study.best_value, suggest(FixedTrial(study.best_params), config), pruned


def reproduce(best: Mapping[str, Any]) -> str:
    """The command that runs the pipeline with the best trial's settings, to the last digit."""
    return " ".join(["dvc exp run", *(f"-S {name}={value}" for name, value in best.items())])
