"""The same settings with several seeds: mean, standard deviation and intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from abo_vqa.core.errors import UserError
from abo_vqa.evaluation.clusters import image_clusters
from abo_vqa.evaluation.seed_variance import (
    Estimate,
    ReplicatedScores,
    images_estimate,
    mean_estimate,
)
from abo_vqa.evaluation.sweep import SweepRun, score_matrix, test_set_key


def summarise_seeds(runs: Sequence[SweepRun], confidence: float) -> dict[str, Any]:
    """Summarise runs that have all settings but the seed in common.

    Args:
        runs: one per seed.
        confidence: of the intervals, e.g. 0.95.

    Returns:
        The content of seeds.json. `test` has the mean over seeds with the interval for images and
        seeds, and `images_low`, `images_high`: the interval for images only, as if these trainings
        were the only ones possible. A bound is None where a single image was tested.

    Raises:
        UserError: Fewer than two have test results, or not all on the same rows.
    """
    tested = [run for run in runs if run.scores is not None]
    if len(tested) < 2:
        raise UserError(
            f"{len(tested)} of {len(runs)} seeds have test results that can be read: at least 2 "
            "are needed. If DVC's cache was cleaned, `dvc exp remove` them and run this again."
        )
    tables = [run.scores for run in tested if run.scores is not None]
    if len({test_set_key(table) for table in tables}) > 1:
        raise UserError("the seeds were tested on different rows: they can't be summarised.")
    clusters = image_clusters(tables[0])
    matrix = score_matrix(tested)
    scores = ReplicatedScores.from_scores(matrix, clusters)
    both, images = mean_estimate(scores, confidence), images_estimate(scores, confidence)
    validation = [run.validation for run in tested if run.validation is not None]
    return {
        "confidence": confidence,
        "test_rows": len(matrix),
        "test_images": int(clusters.max()) + 1,
        "test": {
            "mean": scores.mean,
            "sd": scores.sd,
            **_bounds(both),
            **{f"images_{name}": bound for name, bound in _bounds(images).items()},
        },
        "validation": {
            "mean": float(np.mean(validation)) if validation else None,
            "sd": float(np.std(validation, ddof=1)) if len(validation) > 1 else None,
        },
        "runs": [
            {
                "seed": run.seed,
                "experiment": run.experiment.name,
                "test": float(matrix[:, i].mean()),
                **_bounds(
                    images_estimate(
                        ReplicatedScores.from_scores(matrix[:, [i]], clusters), confidence
                    )
                ),
                "validation": run.validation,
                "seconds": run.seconds,
            }
            for i, run in enumerate(tested)
        ],
    }


def _bounds(estimate: Estimate) -> dict[str, float | None]:
    bounds = {"low": estimate.low, "high": estimate.high}
    return {name: None if math.isnan(bound) else bound for name, bound in bounds.items()}
