"""What `abo-vqa sweep` does: collect experiments, compare them, write and describe the result."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

from dvc.repo import Repo

from abo_vqa.commands.experiment_results import read_runs
from abo_vqa.core.config import load_config
from abo_vqa.core.errors import UserError
from abo_vqa.core.experiments.collect import (
    Experiment,
    collect_experiments,
    count_experiments,
    open_repository,
)
from abo_vqa.core.experiments.seconds import experiment_seconds
from abo_vqa.evaluation.sweep import compare_experiments
from abo_vqa.reporting.figures.sweep import draw_sweep
from abo_vqa.reporting.sweep_report import sweep_text, write_sweep


def show_sweep(revs: list[str] | None, name: str | None, out: Path) -> str:
    """Compare the experiments of some commits.

    Args:
        revs: the commits; None for the one that is checked out.
        name: a pattern of the experiments' names; None for all of them and the commit itself.
        out: the folder for the files.

    Returns:
        The text for the terminal.

    Raises:
        UserError: There are no experiments.
    """
    config = load_config()
    confidence = config.evaluate.confidence
    with open_repository() as repo:
        experiments = _select(repo, revs, name)
        baselines = {experiment.baseline for experiment in experiments}
        seconds, missing = experiment_seconds(config.tracking.experiment, baselines)
        runs = read_runs(repo, experiments, seconds)
    runs = [r for r in runs if r.experiment.state != "commit" or r.test is not None]
    sweep = compare_experiments(runs, confidence)
    write_sweep(sweep, confidence, out)
    draw_sweep(sweep, confidence, out)
    notes = [f"Seconds are missing: {missing}."] if missing else []
    notes += [f"{e.name} can't be read: {e.problem}" for e in experiments if e.problem]
    return "\n".join([sweep_text(sweep, confidence), *notes, f"→ {out}"])


def _select(repo: Repo, revs: list[str] | None, name: str | None) -> list[Experiment]:
    """The experiments that were asked for; see `show_sweep`."""
    every = collect_experiments(repo, revs)
    chosen = [e for e in every if name is None or fnmatchcase(e.name, name)]
    if any(experiment.state != "commit" for experiment in chosen):
        return chosen
    others = count_experiments(repo)
    known = [e.name for e in every if e.state != "commit"]
    if known:
        raise UserError(f"no experiment is called {name}; there are {', '.join(known)}.")
    elsewhere = (
        f" {others} start from other commits: name one with --rev, `dvc exp list -A` lists them."
        if others
        else ""
    )
    raise UserError(
        f"no experiments start from {' or '.join(revs or ['this commit'])}.{elsewhere} "
        "`dvc exp run --queue -S 'lora.r=4,8,16'` and `dvc queue start` make some."
    )
