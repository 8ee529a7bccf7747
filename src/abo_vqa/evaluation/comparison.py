"""Any two models on identical rows: difference, interval, tests corrected for their number."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from abo_vqa.config import Config
from abo_vqa.evaluation.statistics import (
    bootstrap,
    detectable,
    holm,
    interval,
    mcnemar_p,
    permutation_p,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray


def compare(
    scored: Mapping[str, pd.DataFrame], clusters: NDArray[np.int64], config: Config
) -> tuple[list[dict[str, Any]], float]:
    """Paired accuracy differences of all pairs of models.

    Significance is the clustered permutation test's, adjusted by Holm over all pairs; McNemar's
    exact p takes rows as independent and is given beside it.

    Returns:
        The pairs, and the smallest difference detectable with 80% power, at the median standard
        error of the paired differences.
    """
    settings = config.evaluate
    right = {model: table["accuracy"].to_numpy(dtype=float) for model, table in scored.items()}
    names = list(combinations(right, 2))
    if not names:
        return [], 0.0
    differences = np.column_stack([right[a] - right[b] for a, b in names])  # [n, P]
    means = bootstrap(differences, clusters, settings.resamples, config.seed)
    bounds = interval(means, settings.confidence)
    permuted = permutation_p(differences, clusters, settings.resamples, config.seed)
    adjusted = holm([float(p) for p in permuted])
    pairs = [
        {
            "a": a,
            "b": b,
            "metric": "accuracy",
            "difference": float(differences[:, i].mean()),
            "low": float(bounds[i, 0]),
            "high": float(bounds[i, 1]),
            "mcnemar_p": mcnemar_p(right[a], right[b]),
            "permutation_p": float(permuted[i]),
            "p_adjusted": adjusted[i],
            "significant": bool(adjusted[i] < 1 - settings.confidence),
        }
        for i, (a, b) in enumerate(names)
    ]
    return pairs, detectable(float(np.median(means.std(axis=0, ddof=1))))
