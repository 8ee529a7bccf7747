"""What a stage returns, and how it is run: configuration in, files out, MLflow beside."""

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


def pin_threads(threads: int) -> None:
    """Fix the number of threads: torch's sums, hence results, depend on it."""
    import os

    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    # Threads that spin while they wait make a small model 20 times slower on a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Tokenizers' own threads and a forked data loader don't mix.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def execute(name: str, run: Run) -> int:
    """Run one stage of the pipeline with the configuration in the current folder.

    Args:
        name: the stage's name as DVC knows it, e.g. "curate" or "baseline@blip".
        run: the stage.
    Returns:
        0; a problem is raised (see `abo_vqa.errors`).
    """
    from abo_vqa.config import load_config
    from abo_vqa.processes import supervised, terminable
    from abo_vqa.tracking import track

    config = load_config()
    pin_threads(config.threads)
    with terminable(), supervised():
        with track(name, config) as tracker:
            summary = run(config, tracker.log)
            tracker.finish(summary)
        summary.cleanup()
    print(summary.message)
    return 0
