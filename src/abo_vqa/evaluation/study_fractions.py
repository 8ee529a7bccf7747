"""Accuracies as the published study prints them, for comparison with its own tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FRACTIONS = (0.02, 0.05, 0.10, 0.25, 0.50, 1.00)


def study_fractions(
    table: pd.DataFrame, rows: int, metrics: Sequence[str]
) -> list[dict[str, float]]:
    """Score the study's fractions of all rows: prefixes of the one sampling order.

    Args:
        table: one model's answers in sampling order: prediction, answer, error, accuracy and a
            column per metric.
        rows: number of all rows.
        metrics: which metrics' means are wanted.

    Returns:
        [{"fraction", "n", "accuracy", "accuracy_lower_case_only", metric…}], for the fractions
        that the model has answered. The second accuracy is the study's own for its baselines,
        without normalisation.
    """
    lower_case = _lower_case_match(table)
    fractions = []
    for fraction in _FRACTIONS:
        n = int(rows * fraction)
        if 0 < n <= len(table):
            part = table.iloc[:n]
            fractions.append(
                {
                    "fraction": fraction,
                    "n": n,
                    "accuracy": float(part["accuracy"].mean()),
                    "accuracy_lower_case_only": float(lower_case[:n].mean()),
                    **{m: float(part[m].mean()) for m in metrics if part[m].notna().any()},
                }
            )
    return fractions


def study_variants(table: pd.DataFrame) -> dict[str, float]:
    """Return the test rows' accuracy in the study's two definitions.

    The study compares lower-cased strings for its baselines; for the fine-tuned model it prints
    F1 under the name of accuracy.

    Args:
        table: one model's scores of the test rows.
    """
    return {
        "accuracy_lower_case_only": float(_lower_case_match(table).mean()),
        "f1_as_accuracy": float(table["f1"].fillna(0.0).mean()),
    }


def _lower_case_match(table: pd.DataFrame) -> NDArray[np.float64]:
    """[n] 1 where the lower-cased strings are equal: how the study scored its baselines."""
    same = table["prediction"].str.lower() == table["answer"].str.lower()
    return np.asarray(same & (table["error"] == ""), dtype=np.float64)
