"""What `abo-vqa changes` does: read two states' settings and results, compare and describe them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from dvc.repo import Repo
from dvc.scm import RevError, resolve_rev

from abo_vqa.core.config import load_config
from abo_vqa.core.errors import UserError, first_line
from abo_vqa.core.experiments.collect import open_repository
from abo_vqa.core.experiments.outputs import OutputMissingError, read_parquets, read_text
from abo_vqa.core.paths import METRICS, scores_of
from abo_vqa.core.tables import write_table
from abo_vqa.evaluation.changes import ANSWER_COLUMNS, Changes, compare_answers
from abo_vqa.reporting.changes_report import ChangesPage, changes_markdown, changes_text

_WORKSPACE = "workspace"
_PARAMS = "params.yaml"


@dataclass(frozen=True)
class _State:
    """A commit's or the workspace's results.

    Attributes:
        label: as people know it.
        rev: the commit; None for the workspace.
        accuracies: model → accuracy, from metrics.json.
        scores: model → its scores of the test rows; empty where they can't be read.
        problem: why they can't.
    """

    label: str
    rev: str | None
    accuracies: Mapping[str, float]
    scores: Mapping[str, pd.DataFrame]
    problem: str = ""


def compare(
    base: str,
    head: str | None,
    *,
    models: Sequence[str],
    listed: int,
    table: Path | None,
    markdown: bool,
) -> str:
    """Compare two states of the project.

    Args:
        base: a commit, branch, tag or experiment.
        head: another one; None for the workspace.
        models: those whose changed answers are listed.
        listed: how many of them at most, per model.
        table: a CSV for all changed answers of all models; None for no such file.
        markdown: whether the page is Markdown.

    Returns:
        The page.

    Raises:
        UserError: A commit doesn't exist or has no results, no such model was tested, or there are
            no answers to write.
    """
    if listed < 0:
        raise UserError(f"--rows: found {listed}; a whole number, at least 0.")
    config = load_config()
    with open_repository() as repo:
        before, now = _read_state(repo, base), _read_state(repo, head)
        settings = _changed_settings(repo, before.rev, now.rev)
    _refuse_unknown(models, before, now)
    problem = before.problem or now.problem
    changes = None if problem else compare_answers(before.scores, now.scores, config)
    if table is not None:
        _write_changes(changes, table, problem)
    names = dict.fromkeys((*now.accuracies, *before.accuracies))
    page = ChangesPage(
        title=f"{before.label} → {now.label}",
        settings=settings,
        accuracies={n: (before.accuracies.get(n), now.accuracies.get(n)) for n in names},
        changes=changes,
        problem=problem,
        confidence=config.evaluate.confidence,
        listed=listed,
        chosen=models,
    )
    return changes_markdown(page) if markdown else changes_text(page)


def _read_state(repo: Repo, name: str | None) -> _State:
    """The results of a commit, or of the workspace.

    Raises:
        UserError: The commit doesn't exist or has no metrics.
    """
    rev, label = None, _WORKSPACE
    if name is not None:
        try:
            rev = resolve_rev(repo.scm, name)
        except RevError as error:
            raise UserError(
                f"{first_line(error)}. Name a commit, branch, tag or experiment; in a clone that "
                "has only one branch, `git fetch origin BRANCH` gets another."
            ) from error
        label = name if rev.startswith(name) else f"{name} ({rev[:7]})"
    try:
        metrics = json.loads(read_text(repo, rev, METRICS))
        accuracies = {model: float(values["accuracy"]) for model, values in metrics.items()}
    except OutputMissingError as error:
        raise UserError(f"{label} has no results: {error}. `dvc repro` makes them.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{METRICS} of {label} isn't what `evaluate` writes: {error!r}.") from error
    try:
        paths = [scores_of(model) for model in accuracies]
        tables = read_parquets(repo, rev, paths, ANSWER_COLUMNS)
    except OutputMissingError as error:
        return _State(label, rev, accuracies, {}, _unavailable(label, rev, error))
    return _State(label, rev, accuracies, dict(zip(accuracies, tables, strict=True)))


def _unavailable(label: str, rev: str | None, error: OutputMissingError) -> str:
    """Say that answers are missing, and how to get them."""
    if rev is None:
        remedy = "`dvc repro` makes them"
    else:
        remedy = (
            "if they were pushed to a remote of yours, name it (`dvc remote default NAME`) and try "
            f"again; else run `dvc repro` on {label}, commit dvc.lock and compare with that commit"
        )
    return f"the answers of {label} aren't in DVC's cache or remotes ({error}): {remedy}."


def _changed_settings(repo: Repo, base: str | None, head: str | None) -> dict[str, Any]:
    """Name → value before and after, of the settings that differ, those of profiles included."""
    files = repo.params.diff(a_rev=base, b_rev=head or _WORKSPACE).get("diff", {})
    return {
        name if path == _PARAMS else f"{path}: {name}": (
            _display(value.get("old")),
            _display(value.get("new")),
        )
        for path, values in files.items()
        for name, value in values.items()
    }


def _display(value: object) -> object:
    """A setting's value; a dash for null, and for a setting that isn't there."""
    return "–" if value is None else value


def _refuse_unknown(models: Sequence[str], before: _State, now: _State) -> None:
    """Raise UserError for a model that neither state has."""
    known = dict.fromkeys((*now.accuracies, *before.accuracies))
    if unknown := [model for model in models if model not in known]:
        raise UserError(
            f"--model: no model {unknown[0]} in {METRICS}; there are {', '.join(known)}."
        )


def _write_changes(changes: Changes | None, path: Path, problem: str) -> None:
    """Write the changed answers of all models.

    Raises:
        UserError: They can't be read.
    """
    if changes is None:
        raise UserError(f"--csv: {problem}")
    tables = [change.changed.assign(model=change.model) for change in changes.models]
    columns = ["model", "change", *(c for c in ANSWER_COLUMNS if c not in _PAIRED)]
    columns += [f"{name}_{side}" for name in _PAIRED for side in ("base", "head")]
    empty = pd.DataFrame(columns=columns)
    write_table(pd.concat(tables)[columns] if tables else empty, path)


_PAIRED = ("prediction", "error", "accuracy")
