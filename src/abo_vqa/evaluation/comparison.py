"""Paired comparisons of all models on identical rows."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from abo_vqa.core.proportions import mcnemar_p
from abo_vqa.evaluation.intervals import bootstrap_means, percentile_interval
from abo_vqa.evaluation.significance import detectable_difference, holm, permutation_p

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from abo_vqa.core.config import Config


def compare_models(
    scored: Mapping[str, pd.DataFrame], clusters: NDArray[np.int64], config: Config
) -> tuple[list[dict[str, Any]], float]:
    """Compare the accuracies of all pairs of models.

    Significance is the clustered permutation test's, adjusted by Holm over all pairs; McNemar's
    exact p takes rows as independent and is given for comparison.

    Args:
        scored: model → its scores; all tables have the same rows.
        clusters: [n] the number of each row's image.
        config: resamples, confidence and seed.

    Returns:
        One entry per pair; and the smallest difference detectable with 80% power, at the median
        standard error of the paired differences.
    """
    settings = config.evaluate
    correct = {model: table["accuracy"].to_numpy(dtype=float) for model, table in scored.items()}
    names = list(combinations(correct, 2))
    if not names:
        return [], 0.0
    differences = np.column_stack([correct[a] - correct[b] for a, b in names])  # [n, P]
    means = bootstrap_means(differences, clusters, settings.resamples, config.seed)
    bounds = percentile_interval(means, settings.confidence)
    p_values = permutation_p(differences, clusters, settings.resamples, config.seed)
    adjusted = holm([float(p) for p in p_values])
    pairs = [
        {
            "a": a,
            "b": b,
            "metric": "accuracy",
            "difference": float(differences[:, i].mean()),
            "low": float(bounds[i, 0]),
            "high": float(bounds[i, 1]),
            "mcnemar_p": mcnemar_p(correct[a], correct[b]),
            "permutation_p": float(p_values[i]),
            "p_adjusted": adjusted[i],
            "significant": bool(adjusted[i] < 1 - settings.confidence),
        }
        for i, (a, b) in enumerate(names)
    ]
    return pairs, detectable_difference(float(np.median(means.std(axis=0, ddof=1))))
