"""What a stage returns, and how it is run: configuration in, files out, MLflow beside."""

from __future__ import annotations

from typing import TYPE_CHECKING

from abo_vqa.core.summary import Run

if TYPE_CHECKING:
    from abo_vqa.config import Config


def pin_threads(threads: int) -> None:
    """Fix the number of threads: torch's sums, hence results, depend on it."""
    import os

    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    # Threads that spin while they wait make a small model 20 times slower on a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Tokenizers' own threads and a forked data loader don't mix.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def execute(name: str, run: Run, config: Config) -> int:
    """Run one stage of the pipeline, on record.

    Args:
        name: the stage's name as DVC knows it, e.g. "curate" or "baseline@blip".
        run: the stage.
        config: the settings.
    Returns:
        0; a problem is raised (see `abo_vqa.core.errors`).
    """
    from abo_vqa.core.processes import supervised, terminable
    from abo_vqa.core.tracking import track

    pin_threads(config.threads)
    with terminable(), supervised():
        with track(name, config) as tracker:
            summary = run(config, tracker.log)
            tracker.finish(summary)
        summary.cleanup()
    print(summary.message)
    return 0
