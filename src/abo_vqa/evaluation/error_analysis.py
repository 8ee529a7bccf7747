"""Numbers behind the report's error analysis: F1 by answer length, errors in counting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from abo_vqa.config import Config
from abo_vqa.data.normalise import normalise
from abo_vqa.data.questions import parse_number
from abo_vqa.evaluation.statistics import bootstrap, interval, wilson

_LENGTHS = (("1–3", 0, 3), ("4–5", 4, 5), ("6–7", 6, 7), ("8–9", 8, 9), ("10+", 10, 10**6))
_LARGEST_ERROR = 4  # larger ones are counted with it


def f1_by_answer_length(
    scores: Mapping[str, pd.DataFrame], models: Sequence[str], config: Config
) -> pd.DataFrame:
    """Return the mean F1 by length of the expected answer, with bootstrap intervals over images.

    Args:
        scores: model → the test rows with image_path, answer and f1, the same rows for each.
        models: the models to compare.
        config: the settings of the bootstrap.

    Returns:
        A tidy table: model, characters, n, f1, low, high; empty if no row has an F1.
    """
    rows, columns = [], []
    for model in models:
        lengths, f1 = scores[model]["answer"].str.len(), scores[model]["f1"].astype(float)
        for name, shortest, longest in _LENGTHS:
            inside = (lengths >= shortest) & (lengths <= longest)
            if f1[inside].notna().any():
                columns.append(f1.where(inside).to_numpy())
                size, mean = int(inside.sum()), float(f1[inside].mean())
                rows.append({"model": model, "characters": name, "n": size, "f1": mean})
    if not rows:
        return pd.DataFrame()
    images = pd.factorize(scores[models[0]]["image_path"])[0].astype(np.int64)
    means = bootstrap(np.column_stack(columns), images, config.evaluate.resamples, config.seed)
    bounds = interval(means, config.evaluate.confidence)
    return pd.DataFrame(rows).assign(low=bounds[:, 0], high=bounds[:, 1])


def counting_errors(
    scores: Mapping[str, pd.DataFrame], models: Sequence[str], confidence: float
) -> pd.DataFrame:
    """Return how far off the predicted numbers are, over the counting questions.

    Args:
        scores: model → the test rows with question_type, answer and prediction.
        models: the models to compare.
        confidence: of the Wilson intervals of the shares.

    Returns:
        A tidy table: model, error (predicted minus expected, from -4 to 4; NaN if the prediction
        isn't a number), n, share, low, high; empty without counting questions.
    """
    rows = []
    for model in models:
        table = scores[model]
        table = table[table["question_type"] == "counting"]
        expected, predicted = table["answer"].map(_as_number), table["prediction"].map(_as_number)
        known = expected.notna()
        errors = (predicted - expected)[known].clip(-_LARGEST_ERROR, _LARGEST_ERROR)
        total = int(known.sum())
        for error, n in errors.value_counts(dropna=False).sort_index().items():
            low, high = wilson(n, total, confidence)
            rows.append({"model": model, "error": error, "n": n, "share": n / total,
                         "low": low, "high": high})  # fmt: skip
    return pd.DataFrame(rows)


def _as_number(text: str) -> float:
    """Return the number that an answer names, NaN if it names none."""
    value = parse_number(normalise(text))
    return float("nan") if value is None else float(value)
