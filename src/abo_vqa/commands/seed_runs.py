"""What `abo-vqa seeds` does: plan the experiments, run those that are missing, report all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.utils.cli_parse import to_path_overrides
from dvc.utils.hydra import apply_overrides

from abo_vqa.commands.experiment_results import read_runs
from abo_vqa.commands.known_ceiling import known_ceiling
from abo_vqa.core.config import Config, load_config
from abo_vqa.core.errors import RetryLaterError, UserError, first_line
from abo_vqa.core.experiments.collect import Experiment, collect_experiments, open_repository
from abo_vqa.core.experiments.run import (
    queue_experiment,
    run_experiment,
    uncommitted_sources,
    wait_for_orphan,
)
from abo_vqa.core.experiments.seconds import experiment_seconds
from abo_vqa.core.fingerprints import fingerprint
from abo_vqa.core.json_files import write_results
from abo_vqa.core.locks import locked
from abo_vqa.core.paths import PROFILES
from abo_vqa.core.processes import sigterm_as_exit
from abo_vqa.core.scratch import scratch
from abo_vqa.core.summary import Summary
from abo_vqa.core.tracking.command_runs import record_command
from abo_vqa.evaluation.seed_summary import summarise_seeds
from abo_vqa.evaluation.sweep import SweepRun
from abo_vqa.reporting.seed_report import draw_seeds, seeds_text

_PARAMS = Path("params.yaml")
# What decides neither a training's result nor its test.
_IRRELEVANT = {"report": True, "tracking": True}
_IRRELEVANT_LORA = {"seed", "checkpoint_minutes", "keep_checkpoints", "gradient_checkpointing"}
_RUNNING = "running"  # the file that names the DVC process at work


@dataclass(frozen=True)
class SeedPlan:
    """The experiments of one call.

    Attributes:
        config: the settings, but for the seed.
        key: stands for commit and settings.
        changes: the settings given on the command line, as `name=value`.
        seeds: from 1 on.
    """

    config: Config
    key: str
    changes: tuple[str, ...]
    seeds: range

    def name(self, seed: int) -> str:
        """Return the name of a seed's experiment.

        Args:
            seed: one of the seeds.
        """
        return f"seeds-{self.key}-{seed}"

    def settings(self, seed: int) -> list[str]:
        """Return what a seed's experiment changes, as `name=value`.

        Args:
            seed: one of the seeds.
        """
        return [*self.changes, f"lora.seed={seed}"]

    def seed_of(self, experiment: Experiment) -> int | None:
        """Return the seed whose experiment this is; None if it is another one's.

        Args:
            experiment: any experiment.
        """
        return next((seed for seed in self.seeds if self.name(seed) == experiment.name), None)


def train_seeds(count: int, changes: Sequence[str], *, queue: bool) -> SeedPlan:
    """Run the experiments of the seeds that have none yet, one after the other.

    Args:
        count: how many seeds there should be.
        changes: settings that differ from params.yaml, as `name=value`.
        queue: put them into DVC's queue instead of running them.

    Returns:
        The plan; but for `queue` all of its experiments have ended.

    Raises:
        UserError: A setting is wrong, sources aren't committed, or an experiment failed.
        RetryLaterError: Seeds are in DVC's queue and haven't run yet.
    """
    plan = _plan(_changed_config(changes), changes, count)
    with sigterm_as_exit(), locked(scratch("seeds", plan.key)) as folder:
        wait_for_orphan(folder / _RUNNING)
        with open_repository() as repo:
            experiments = collect_experiments(repo)
        state = {plan.seed_of(e): e.state for e in experiments}
        missing = [seed for seed in plan.seeds if state.get(seed) in (None, "failed")]
        waiting = [seed for seed in plan.seeds if state.get(seed) in ("queued", "running")]
        done = count - len(missing) - len(waiting)
        print(f"{done} of {count} seeds have been trained ({plan.name(1)} to {plan.name(count)}).")
        if queue:
            _queue(plan, missing, sum(e.state == "queued" for e in experiments) - len(waiting))
        else:
            _run(plan, missing, folder / _RUNNING)
    if waiting and not queue:
        raise RetryLaterError(
            f"{len(waiting)} of {count} seeds are in DVC's queue: `dvc queue start` runs them, "
            "`dvc queue status` shows how far they are. Then run this command again."
        )
    return plan


def _queue(plan: SeedPlan, missing: Sequence[int], others: int) -> None:
    """Queue seeds, and say how to go on."""
    for seed in missing:
        queue_experiment(plan.name(seed), plan.settings(seed))
    print(
        f"queued: {len(missing)}. `dvc queue start --jobs 2` runs them, two at a time; then "
        "`abo-vqa seeds` with the same options, but without --queue-only, reports them."
    )
    if others > 0:
        print(f"DVC's queue has {others} other experiment(s), which that runs as well.")


def _run(plan: SeedPlan, missing: Sequence[int], running: Path) -> None:
    """Run experiments in turn."""
    for number, seed in enumerate(missing, start=1):
        print(f"\nseed {seed} ({number} of {len(missing)}): {plan.name(seed)}")
        if not run_experiment(plan.name(seed), plan.settings(seed), running):
            raise UserError(
                f"seed {seed} failed, for the reason above. Fix it and run the same command: "
                "the seeds that are done are kept."
            )


def _changed_config(changes: Sequence[str]) -> Config:
    """The settings with some changed, as `dvc exp run -S` would: DVC's own parser does it.

    Raises:
        UserError: A change isn't `name=value`, or its value isn't allowed.
    """
    if any(change.partition("=")[0].strip("+~ ") == "lora.seed" for change in changes):
        raise UserError("-S lora.seed: this command sets it, to 1, 2, 3 and so on.")
    config = load_config()
    if not changes:
        return config
    with tempfile.TemporaryDirectory(prefix="abo-vqa-") as folder:
        shutil.copytree(PROFILES, Path(folder) / PROFILES)
        shutil.copy(_PARAMS, folder)
        try:
            for path, overrides in to_path_overrides(changes).items():
                apply_overrides(str(Path(folder) / path), overrides)
            return load_config(Path(folder) / _PARAMS)
        except (DvcException, OSError) as error:
            raise UserError(f"-S {' -S '.join(changes)}: {first_line(error)}.") from error
        except UserError as error:
            raise UserError(str(error).replace(f"{folder}/", "")) from error


def _plan(config: Config, changes: Sequence[str], count: int) -> SeedPlan:
    """Name the experiments.

    Raises:
        UserError: Sources differ from the commit.
    """
    with open_repository() as repo:
        commit = str(repo.scm.get_rev())
    if changed := uncommitted_sources():
        raise UserError(
            f"{len(changed)} file(s) differ from the commit, e.g. {changed[0]}. Commit them first: "
            "an experiment is found again by its commit and its settings (params.yaml may differ)."
        )
    exclude: dict[str, Any] = {**_IRRELEVANT, "lora": _IRRELEVANT_LORA}
    key = fingerprint([commit, config.model_dump(mode="json", exclude=exclude)])[:8]
    return SeedPlan(config, key, tuple(changes), range(1, count + 1))


def report_seeds(plan: SeedPlan, out: Path) -> str:
    """Summarise the seeds: write seeds.json, seeds.png and data/seeds.csv, record them in MLflow.

    Args:
        plan: whose experiments have ended.
        out: the folder.

    Returns:
        The text for the terminal.

    Raises:
        UserError: Fewer than two seeds have test results on the same rows.
    """
    with open_repository() as repo:
        experiments = [e for e in collect_experiments(repo) if plan.seed_of(e) and e.finished]
        baselines = {e.baseline for e in experiments}
        seconds, _ = experiment_seconds(plan.config.tracking.experiment, baselines)
        runs = sorted(read_runs(repo, experiments, seconds), key=_seed)
    summary = summarise_seeds(runs, plan.config.evaluate.confidence)
    if ceiling := known_ceiling(next(run.scores for run in runs if run.scores is not None)):
        summary["ceiling"] = ceiling
    write_results({"key": plan.key, "changes": list(plan.changes), **summary}, out / "seeds.json")
    figure = draw_seeds(summary, out)
    record_command(
        "seeds",
        plan.key,
        Summary(
            seeds_text(summary),
            metrics={name: summary["test"][name] for name in ("mean", "sd", "low", "high")},
            params={"seeds": len(runs), "changes": " ".join(plan.changes)},
            artifacts=(out / "seeds.json", figure),
        ),
        plan.config,
    )
    return f"{seeds_text(summary)}\n→ {out}"


def _seed(run: SweepRun) -> int:
    return run.seed or 0
