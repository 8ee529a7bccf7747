"""What a stage returns to be remembered about its run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from abo_vqa.config import Config


Log = Callable[[Mapping[str, float], int], None]
"""`log({"loss": 0.1}, step)`: a metric's history. Goes to MLflow, never into an output."""


def nothing() -> None:
    """Do nothing: what is left to do after most stages."""


def no_log(metrics: Mapping[str, float], step: int) -> None:
    """Forget the metrics: what a stage uses outside a tracked run."""


@dataclass(frozen=True)
class Summary:
    """What a stage wants remembered about its run.

    Attributes:
        message: one or a few lines for the terminal.
        metrics: final numbers for MLflow (timings and memory belong here, not in outputs).
        params: settings that took effect and aren't in the configuration as such.
        headline: the few numbers that whole experiments are compared by.
        results: what became known about files or folders that earlier stages made, by their path.
        datasets: tables read or written, by context ("training", "evaluation", …).
        artifacts: files and folders to keep with the run.
        model: a folder to register as a model (a PEFT adapter).
        cleanup: called when the run is on record; until then journals and checkpoints stay, so
            that a kill in between loses no work.
    """

    message: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    headline: Mapping[str, float] = field(default_factory=dict)
    results: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    datasets: Mapping[str, Path] = field(default_factory=dict)
    artifacts: tuple[Path, ...] = ()
    model: Path | None = None
    cleanup: Callable[[], None] = nothing


Run = Callable[["Config", Log], Summary]
