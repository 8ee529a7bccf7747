"""What DVC knows of a commit's experiments: state, settings, metrics, hashes of files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import psutil
from dvc.exceptions import DvcException, NotDvcRepoError
from dvc.repo import Repo
from dvc.repo.experiments.serialize import ExpRange, ExpState
from dvc.scm import NoSCMError, RevError, SCMError

from abo_vqa.core.errors import UserError, first_line
from abo_vqa.core.nested import flatten
from abo_vqa.core.yaml_files import fill_nulls

ExperimentState = Literal["commit", "success", "trial", "pruned", "running", "queued", "failed"]
_PROFILES = "conf/profiles/"


@dataclass(frozen=True)
class Experiment:
    """An experiment, or the commit that experiments start from.

    Attributes:
        name: the experiment's, or the commit's branch or short hash.
        rev: the Git commit that holds its results; of a queued one, its settings.
        baseline: the commit that it starts from.
        state: "commit" for that commit itself, "trial" or "pruned" for a trial of `abo-vqa tune`,
            else DVC's word.
        settings: flat, with the profile's value where params.yaml has null.
        metrics: file → metric → value, flat.
        outputs: path → hash, of what stages wrote.
        inputs: path → hash, of what stages read.
        problem: why it can't be read; "" if it can.
    """

    name: str
    rev: str
    baseline: str
    state: ExperimentState
    settings: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    outputs: Mapping[str, str | None] = field(default_factory=dict)
    inputs: Mapping[str, str | None] = field(default_factory=dict)
    problem: str = ""

    @property
    def finished(self) -> bool:
        """Whether it has results of its own."""
        return self.state in ("commit", "success", "trial")

    def is_current(self, path: str) -> bool:
        """Tell whether what was read from a stage's output is what that stage wrote last.

        It isn't where a run ended before the stages that follow (`dvc exp run finetune`).

        Args:
            path: an output that another stage reads.
        """
        return self.inputs.get(path) == self.outputs.get(path)


@contextmanager
def open_repository() -> Iterator[Repo]:
    """Open the DVC repository of the current folder.

    Yields:
        The repository.

    Raises:
        UserError: There is none, Git has no commit in it, or DVC refuses something in the block.
    """
    try:
        with Repo() as repo:
            if repo.config["core"].get("no_scm") or repo.scm.no_commits:
                raise UserError("experiments need a commit in Git: `git commit` first.")
            yield repo
    except (NotDvcRepoError, NoSCMError, SCMError) as error:
        raise UserError(
            f"experiments need a Git and DVC repository: {first_line(error)}. Run this in a clone "
            "of the project (for your own copy: `git init`, `dvc init`, and a commit)."
        ) from error
    except DvcException as error:
        raise UserError(f"DVC can't do that: {first_line(error)}.") from error


def collect_experiments(repo: Repo, revs: list[str] | None = None) -> list[Experiment]:
    """List commits and the experiments that start from them.

    Args:
        repo: the repository.
        revs: the commits, in any of Git's ways; None for the one that is checked out.

    Returns:
        Each commit, followed by its experiments: running, finished, queued, failed.

    Raises:
        UserError: A commit doesn't exist.
    """
    try:
        states = repo.experiments.show(revs=revs, hide_workspace=True)
    except RevError as error:
        raise UserError(f"{first_line(error)}. Name a commit, branch or tag.") from error
    experiments = []
    for commit in states:
        name = commit.name or commit.rev[:7]
        experiments.append(_experiment(commit, name, commit.rev, "commit"))
        started = [_started(item, commit.rev) for item in commit.experiments or []]
        # What failed or was killed before the experiment of this name succeeded is history.
        finished = {experiment.name for experiment in started if experiment.finished}
        experiments += [e for e in started if e.finished or e.name not in finished]
    return experiments


def _started(item: ExpRange, baseline: str) -> Experiment:
    """An experiment in the state it is in; DVC shows one that was killed as running for ever."""
    executor, tip = item.executor, item.revs[0]
    state: ExperimentState = executor.state if executor else "success"
    pid = executor.local.pid if executor and executor.local else None
    if state == "running" and pid is not None and not psutil.pid_exists(pid):
        state = "failed"
    return _experiment(tip, item.name or tip.rev[:7], baseline, state)


def count_experiments(repo: Repo) -> int:
    """Count the finished experiments of all commits.

    Args:
        repo: the repository.
    """
    return sum(map(len, repo.experiments.ls(all_commits=True).values()))


def _experiment(state: ExpState, name: str, baseline: str, kind: ExperimentState) -> Experiment:
    """One experiment from DVC's own description of it."""
    if state.data is None:
        problem = state.error.msg if state.error else "DVC has nothing about it"
        return Experiment(name, state.rev, baseline, kind, problem=problem)
    data = state.data
    return Experiment(
        name,
        state.rev,
        baseline,
        kind,
        settings=_settings(_contents(data.params)),
        metrics={path: flatten(values) for path, values in _contents(data.metrics).items()},
        outputs={path: out.hash for path, out in data.outs.items()},
        inputs={path: dep.hash for path, dep in data.deps.items()},
    )


def _contents(files: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The files that could be read, without those that hold no mapping."""
    read = {path: file.get("data") for path, file in files.items()}
    return {path: values for path, values in read.items() if isinstance(values, dict)}


def _settings(files: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The settings in effect: params.yaml, its nulls filled in from the profile, and the profile.

    DVC writes 0.00002 as `2e-05`, which YAML reads as a text: numbers become numbers.
    """
    params = files.get("params.yaml", {})
    profile = dict(files.get(f"{_PROFILES}{params.get('profile')}.yaml", {}))
    filled = fill_nulls(dict(params), profile.pop("defaults", {}))
    return {key: as_number(value) for key, value in flatten({**filled, **profile}).items()}


def as_number(value: Any) -> Any:
    """Return the number that a text stands for; anything else as it is.

    Args:
        value: any value.
    """
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return value
