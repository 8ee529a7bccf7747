"""What a stage returns to be recorded about its run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from abo_vqa.core.config import Config


Log = Callable[[Mapping[str, float], int], None]
"""`log({"loss": 0.1}, step)`: adds a point to a metric's history. It goes to MLflow, never into an
output."""


def no_log(_metrics: Mapping[str, float], _step: int) -> None:
    """Discard the metrics, as outside a tracked run."""


def no_cleanup() -> None:
    """Do nothing: most stages leave no journal behind."""


@dataclass(frozen=True)
class ModelVersionInfo:
    """What a model registry records of an adapter besides its weights.

    Attributes:
        name: the registered model's.
        profile: the settings' profile; each has its own aliases.
        code: the file that answers with the adapter, an MLflow "model from code".
        package: the folder of the package that `code` imports.
        package_parts: files and folders in it that are stored with the model.
        requirements: the packages that it needs.
        inputs: names of the columns that it takes.
        outputs: names of the columns that it returns, all of them texts.
        description: the version's.
        settings: what answering depends on: the prompt, `max_new_tokens`, `threads` and the like.
        validation: accuracy on the held-out rows.
        held_out: a fingerprint of the held-out rows: accuracies on others can't be compared.
        correct: whether each of them is answered correctly; empty if none were held out.
        example: values by input column, to try the model with.
        tags: the version's.
    """

    name: str
    profile: str
    code: str
    package: str
    package_parts: Sequence[str]
    requirements: Sequence[str]
    inputs: Sequence[str]
    outputs: Sequence[str]
    description: str
    settings: Mapping[str, int | str]
    validation: float
    held_out: str
    correct: Sequence[bool] = ()
    example: Mapping[str, Sequence[str]] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelVersion:
    """A folder to register as a version of a model: a PEFT adapter.

    Attributes:
        folder: the adapter's.
        info: what is recorded besides it.
    """

    folder: Path
    info: ModelVersionInfo


@dataclass(frozen=True)
class Summary:
    """What is recorded about a stage's run.

    Attributes:
        message: one or a few lines for the terminal.
        metrics: final numbers for MLflow (timings and memory belong here, not in outputs).
        params: settings that took effect and aren't in the configuration as such.
        headline: the few numbers that whole experiments are compared by.
        outcome: the result in one sentence; the message's first line if empty.
        results: what became known about files or folders that earlier stages made, by their path.
        datasets: tables read or written, by context ("training", "evaluation", …).
        artifacts: files and folders to keep with the run.
        tables: columns by name of tables that the browser shows, by the table's name.
        highlights: files that tell the whole invocation's result, to keep with its run as well.
        model: what to register as a version of a model.
        cleanup: removes journals and checkpoints; to be called when the run is on record, so that a
            kill in between loses no work.
    """

    message: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    headline: Mapping[str, float] = field(default_factory=dict)
    outcome: str = ""
    results: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    datasets: Mapping[str, Path] = field(default_factory=dict)
    artifacts: tuple[Path, ...] = ()
    tables: Mapping[str, Mapping[str, Sequence[Any]]] = field(default_factory=dict)
    highlights: tuple[Path, ...] = ()
    model: ModelVersion | None = None
    cleanup: Callable[[], None] = no_cleanup


Run = Callable[["Config", Log], Summary]
"""A stage: `run(config, log)` reads and writes files, and returns its summary."""
