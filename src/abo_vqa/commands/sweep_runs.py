"""What `abo-vqa sweep` does: collect experiments, compare them, write and describe the result."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from abo_vqa.commands.experiment_results import read_runs
from abo_vqa.commands.known_ceiling import known_ceiling
from abo_vqa.core.config import load_config
from abo_vqa.core.errors import UserError, first_line
from abo_vqa.core.experiments.collect import (
    Experiment,
    collect_experiments,
    count_experiments,
    open_repository,
)
from abo_vqa.core.experiments.seconds import experiment_seconds
from abo_vqa.core.experiments.trials import collect_trials
from abo_vqa.evaluation.sweep import SweepRun, compare_experiments
from abo_vqa.reporting.figures.sweep import draw_sweep
from abo_vqa.reporting.sweep_report import sweep_text, write_sweep


def show_sweep(revs: list[str] | None, name: str | None, out: Path, *, trials: bool = False) -> str:
    """Compare the experiments of some commits.

    Args:
        revs: the commits; None for the one that is checked out.
        name: a pattern of the experiments' names; None for all of them and the commit itself.
        out: the folder for the files.
        trials: also the trials of `abo-vqa tune` on these commits.

    Returns:
        The text for the terminal.

    Raises:
        UserError: There are no experiments.
    """
    config = load_config()
    confidence = config.evaluate.confidence
    with open_repository() as repo:
        every = collect_experiments(repo, revs)
        experiments = _select(every, name)
        if not (experiments or trials):
            raise _nothing_to_show(every, revs, name, count_experiments(repo))
        baselines = {experiment.baseline for experiment in every}
        seconds, missing = experiment_seconds(config.tracking.experiment, baselines)
        runs = read_runs(repo, experiments, seconds)
    runs = [run for run in runs if run.experiment.state != "commit" or run.test is not None]
    notes = [f"Seconds are missing: {missing}."] if missing else []
    if trials:
        try:
            runs += _trials(config.tracking.experiment, every)
        except UserError as error:
            notes.append(f"Trials are missing: {first_line(error)}.")
    sweep = compare_experiments(runs, confidence)
    tested = (row.runs[0].scores for row in sweep.rows if row.group == 0)
    scores = next(tested, None)
    ceiling = None if scores is None else known_ceiling(scores)
    write_sweep(sweep, confidence, out, ceiling)
    draw_sweep(sweep, confidence, out, ceiling)
    notes += [f"{e.name} can't be read: {e.problem}" for e in experiments if e.problem]
    return "\n".join([sweep_text(sweep, confidence, ceiling), *notes, f"→ {out}"])


def _trials(experiment: str, experiments: Sequence[Experiment]) -> list[SweepRun]:
    """The trials on the experiments' commits, as runs without test results."""
    commits = [e for e in experiments if e.state == "commit"]
    return [
        SweepRun(t.experiment, validation=t.validation, seconds=t.seconds)
        for t in collect_trials(experiment, commits)
    ]


def _select(every: Sequence[Experiment], name: str | None) -> list[Experiment]:
    """The experiments with such a name; without one the commits too, if anything starts there."""
    chosen = [e for e in every if name is None or fnmatchcase(e.name, name)]
    return chosen if any(experiment.state != "commit" for experiment in chosen) else []


def _nothing_to_show(
    every: Sequence[Experiment], revs: Sequence[str] | None, name: str | None, others: int
) -> UserError:
    """The error that says what there is instead."""
    if known := [experiment.name for experiment in every if experiment.state != "commit"]:
        return UserError(f"no experiment is called {name}; there are {', '.join(known)}.")
    elsewhere = (
        f" {others} start from other commits: name one with --rev, `dvc exp list -A` lists them."
        if others
        else ""
    )
    return UserError(
        f"no experiments start from {' or '.join(revs or ['this commit'])}.{elsewhere} "
        "`dvc exp run --queue -S 'lora.r=4,8,16'` and `dvc queue start` make some."
    )
