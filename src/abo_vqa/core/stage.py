"""Running a stage: read its configuration, write its files, record an MLflow run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from abo_vqa.core.processes import sigterm_as_exit, stop_with_parent
from abo_vqa.core.summary import Run

if TYPE_CHECKING:
    from abo_vqa.core.config import Config


def pin_threads(threads: int) -> None:
    """Fix the number of threads: torch's sums, and thereby results, depend on it.

    Args:
        threads: how many.
    """
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    # Threads that spin while they wait make a small model 20 times slower on a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Tokenizers' own threads and a forked data loader don't mix.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def execute(name: str, run: Run, config: Config, checkpoint: str | None = None) -> str:
    """Run one stage of the pipeline, on record.

    Args:
        name: the stage's name as DVC knows it, e.g. "curate" or "baseline@blip".
        run: the stage.
        config: the settings.
        checkpoint: the key under `models` of the weights it uses, None if it uses none.

    Returns:
        The summary's message.
    """
    from abo_vqa.core.tracking.runs import track  # imports MLflow, for which threads are pinned

    pin_threads(config.threads)
    with sigterm_as_exit(), stop_with_parent():
        with track(name, config, checkpoint) as tracker:
            summary = run(config, tracker.log)
            tracker.finish(summary)
        summary.cleanup()
    return summary.message
