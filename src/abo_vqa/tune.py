"""`abo-vqa tune`: a search over LoRA's settings with Optuna; trials are MLflow runs.

Each trial trains with the stage's own code on the same held-out rows; test rows are never touched.
A trial whose accuracy after an epoch is below the median of earlier trials is stopped. The study is
a SQLite file, so that a killed search goes on with the trials it has.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from abo_vqa.config import Config, load_config
from abo_vqa.io import fingerprint, scratch
from abo_vqa.stage import pin_threads
from abo_vqa.tracking import track_trial

if TYPE_CHECKING:
    import optuna


def suggest(trial: optuna.Trial) -> dict[str, Any]:
    """The space that is searched, as settings of params.yaml."""
    rank = trial.suggest_categorical("lora.r", [4, 8, 16, 32])
    return {
        "lora.r": rank,
        "lora.alpha": rank * trial.suggest_categorical("alpha_by_r", [1, 2]),
        "lora.lr": trial.suggest_float("lora.lr", 1e-5, 1e-2, log=True),
        "lora.dropout": trial.suggest_categorical("lora.dropout", [0.0, 0.05, 0.1]),
    }


def with_settings(config: Config, chosen: Mapping[str, Any]) -> Config:
    """The configuration with some of `lora`'s settings replaced."""
    changed = {name.removeprefix("lora."): value for name, value in chosen.items()}
    return config.model_copy(update={"lora": config.lora.model_copy(update=changed)})


def run_trial(trial: optuna.Trial, config: Config, name: str) -> float:
    """Train once with suggested settings; returns the best held-out accuracy."""
    import optuna

    from abo_vqa import finetune
    from abo_vqa.stage import Summary

    chosen = suggest(trial)
    with track_trial(name, chosen, config) as tracker:

        def watch(metrics: Mapping[str, float], step: int) -> None:
            tracker.log(metrics, step)
            if "validation_accuracy" in metrics:
                trial.report(metrics["validation_accuracy"], step)
                if trial.should_prune():
                    raise optuna.TrialPruned

        try:
            trained = finetune.train(with_settings(config, chosen), watch)
        except optuna.TrialPruned:
            tracker.finish(Summary("", params={"pruned": True}))
            raise
        best = float(trained.history.best_accuracy)
        tracker.finish(Summary("", metrics={"best_validation_accuracy": best}))
        shutil.rmtree(trained.folder, ignore_errors=True)
    return best


def reproduce(best: Mapping[str, Any]) -> str:
    """The command that runs the pipeline with the best trial's settings."""
    settings = " ".join(f"-S {name}={value:.6g}" for name, value in best.items())
    return f"dvc exp run {settings}"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--trials", type=int, default=20, help="in all, earlier ones included")


def command(args: argparse.Namespace) -> int:
    import optuna

    config = load_config()
    pin_threads(config.threads)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    name = fingerprint([config.model_dump(mode="json", exclude={"report", "tracking"})])
    study = optuna.create_study(
        study_name=name,
        storage=f"sqlite:///{scratch('tune', name) / 'study.db'}",
        direction="maximize",
        load_if_exists=True,
        sampler=optuna.samplers.TPESampler(seed=config.seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=1),
    )
    ended = [t for t in study.trials if t.state.is_finished()]
    left = max(0, args.trials - len(ended))
    study.optimize(
        lambda trial: run_trial(trial, config, name), n_trials=left, show_progress_bar=True
    )
    best = suggest(optuna.trial.FixedTrial(study.best_params))
    print(f"{len(study.trials)} trials, the best held-out accuracy is {study.best_value:.3f}:")
    print(f"  {reproduce(best)}")
    return 0
