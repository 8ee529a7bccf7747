"""Everything that the evaluation knows about the test rows, from tables to numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from abo_vqa.evaluation.comparison import compare
from abo_vqa.evaluation.predictions import join
from abo_vqa.evaluation.scoring import score_all_rows, score_test_rows
from abo_vqa.evaluation.slices import calibration, counting, slices, study_variants, worst, yes_no
from abo_vqa.evaluation.summary import best_blind, intervals, summarise
from abo_vqa.evaluation.test_rows import describe_rows

if TYPE_CHECKING:
    from abo_vqa.config import Config


@dataclass(frozen=True)
class Tables:
    """What is evaluated.

    Attributes:
        vqa, train, test: questions and answers.
        predictions: model → its predictions by row_id, the fine-tuned model's as "finetuned".
        unfinished_fits: blind models whose fit stopped early.
    """

    vqa: pd.DataFrame
    train: pd.DataFrame
    test: pd.DataFrame
    predictions: Mapping[str, pd.DataFrame]
    unfinished_fits: Sequence[str] = ()


@dataclass(frozen=True)
class _Evaluation:
    """The result.

    Attributes:
        scored: model → the test rows with a column per metric.
        metrics, details: the contents of metrics.json and evaluation.json.
    """

    scored: dict[str, pd.DataFrame]
    metrics: dict[str, dict[str, float]]
    details: dict[str, Any]


def evaluate(tables: Tables, config: Config, device: str = "cpu") -> _Evaluation:
    """Score all models on the same test rows.

    Raises:
        UserError: a model has no prediction for any test row, or there is no blind baseline.
    """
    rows = describe_rows(tables.test, tables.train)
    joined = {model: join(rows, found, model) for model, found in tables.predictions.items()}
    scored, signature = score_test_rows(joined, config, device)
    blind = best_blind(scored)
    clusters = pd.factorize(rows["image_path"])[0].astype(np.int64)
    pairs, smallest = compare(scored, clusters, config)
    cut = slices(scored, clusters, config)
    zero_shot = {
        model: found
        for model, found in tables.predictions.items()
        if model != "finetuned" and not model.startswith("blind-")
    }
    details = {
        "signature": signature,
        "best_blind": blind,
        "unfinished_fits": list(tables.unfinished_fits),
        "intervals": intervals(scored, clusters, config),
        "pairs": pairs,
        "minimum_detectable_difference": smallest,
        "slices": cut,
        "worst_slices": worst(cut["finetuned"], scored["finetuned"]),
        "yes_no": {model: yes_no(table) for model, table in scored.items()},
        "counting": {model: counting(table) for model, table in scored.items()},
        "calibration": {m: found for m, t in scored.items() if (found := calibration(t))},
        "fractions": score_all_rows(zero_shot, tables.vqa, config, device),
        "study": {model: study_variants(table) for model, table in scored.items()},
    }
    return _Evaluation(scored, summarise(scored, blind), details)
