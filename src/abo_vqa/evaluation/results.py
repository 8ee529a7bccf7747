"""The evaluation as a whole: from tables of questions and predictions to numbers.

`evaluate` scores every model's predictions of the test rows (`scoring`), averages the scores
(`summary`) and analyses them (`analyse`): intervals, paired comparisons, slices, kinds of errors,
calibration. Nothing here reads or writes files; the stage `evaluate` and `abo-vqa benchmark` do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

from abo_vqa.core.paths import FINETUNED_MODELS, FINETUNED_RANKED
from abo_vqa.evaluation.calibration import calibrate
from abo_vqa.evaluation.ceiling import label_noise_ceiling
from abo_vqa.evaluation.closed_world import describe_candidates
from abo_vqa.evaluation.clusters import image_clusters
from abo_vqa.evaluation.comparison import compare_models
from abo_vqa.evaluation.error_analysis import counting_errors, f1_by_answer_length, yes_no_recall
from abo_vqa.evaluation.intervals import learning_curve_intervals
from abo_vqa.evaluation.predictions import join_predictions
from abo_vqa.evaluation.rows import describe_rows
from abo_vqa.evaluation.scoring import score_all_rows, score_test_rows
from abo_vqa.evaluation.slices import SLICE_COLUMNS, slice_accuracy, worst_slices
from abo_vqa.evaluation.study_fractions import study_variants
from abo_vqa.evaluation.summary import (
    best_blind_model,
    mean_metrics,
    metric_intervals,
    primary_model,
)

if TYPE_CHECKING:
    from abo_vqa.core.config import Config
    from abo_vqa.core.engine.work import RunMap


@dataclass(frozen=True)
class Tables:
    """What is evaluated.

    Attributes:
        test: the questions and answers that every model is measured on.
        predictions: model → its predictions by row_id, the fine-tuned model's as "finetuned".
        train: questions and answers that the fine-tuned model saw; None where nobody knows.
        vqa: all questions and answers, a row's position being its row_id; None for a test set that
            isn't part of a larger one.
        unfinished_fits: blind models whose fit stopped early.
        partial_fits: blind models that were fitted on a part of the train split → which.
        training: the content of training.json.
        reviews: what people found wrong of what the filters leave: `reviews` of
            data/verification.json, with the number of raters.
    """

    test: pd.DataFrame
    predictions: Mapping[str, pd.DataFrame]
    train: pd.DataFrame | None = None
    vqa: pd.DataFrame | None = None
    unfinished_fits: Sequence[str] = ()
    partial_fits: Mapping[str, str] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    reviews: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """The results.

    Attributes:
        scored: model → the test rows with a column per metric.
        best_blind: the blind model that gains are measured against.
        metrics: the contents of metrics.json.
        details: the contents of evaluation.json.
        notes: why metrics were left out.
    """

    scored: dict[str, pd.DataFrame]
    best_blind: str
    metrics: dict[str, dict[str, float]]
    details: dict[str, Any]
    notes: tuple[str, ...] = ()


def evaluate(
    tables: Tables,
    config: Config,
    device: str = "cpu",
    metrics: Sequence[str] | None = None,
    *,
    required: bool = True,
    run: RunMap = map,
) -> Evaluation:
    """Score and analyse all models' predictions of the same test rows.

    Args:
        tables: questions, answers and predictions.
        config: the settings.
        device: where the neural metrics are computed.
        metrics: which metrics are computed (see `scoring.score_test_rows`); None for all.
        required: whether a neural metric's model that can't be used is an error.
        run: applies a function to batches of pairs (see `pair_scores.score_pairs`).

    Returns:
        The results.

    Raises:
        UserError: a model has no prediction for any test row, there is no blind baseline, or a
            required metric can't be computed.
    """
    rows = describe_rows(tables.test, tables.train)
    joined = {
        model: join_predictions(rows, predictions, model)
        for model, predictions in tables.predictions.items()
    }
    scored, signature, notes = score_test_rows(
        joined, config, device, metrics, required=required, run=run
    )
    del joined
    blind = best_blind_model(scored)
    details = {
        "signature": signature,
        "best_blind": blind,
        "unfinished_fits": list(tables.unfinished_fits),
        **analyse(scored, config),
    }
    if tables.partial_fits:
        details["partial_fits"] = dict(tables.partial_fits)
    if ceiling := label_noise_ceiling(tables.reviews, tables.test, config.evaluate.confidence):
        details["ceiling"] = ceiling
    if tables.training:
        curve = learning_curve_intervals(tables.training, config.evaluate.confidence)
        details["learning_curve"] = curve
    if tables.vqa is not None:
        details["fractions"] = score_all_rows(
            {m: t for m, t in tables.predictions.items() if answers_all_rows(m)},
            tables.vqa["answer"],
            config,
            device,
            run,
        )
    if tables.train is not None and FINETUNED_RANKED in tables.predictions:
        details["closed_world"] = describe_candidates(tables.train, tables.test, config.ranking)
    return Evaluation(scored, blind, mean_metrics(scored, blind), details, tuple(notes))


def analyse(scored: Mapping[str, pd.DataFrame], config: Config) -> dict[str, Any]:
    """Everything that follows from the scores alone.

    Args:
        scored: model → the described test rows with a column per metric.
        config: resamples, confidence and seed.

    Returns:
        The analyses' parts of evaluation.json.
    """
    rows = next(iter(scored.values()))
    clusters = image_clusters(rows)
    primary = primary_model({m: float(table["accuracy"].mean()) for m, table in scored.items()})
    level = config.evaluate.confidence
    pairs, detectable = compare_models(scored, clusters, config)
    slices = slice_accuracy(scored, clusters, config, [c for c in SLICE_COLUMNS if c in rows])
    calibration = {model: calibrate(table, level) for model, table in scored.items()}
    return {
        "intervals": metric_intervals(scored, clusters, config),
        "pairs": pairs,
        "minimum_detectable_difference": detectable,
        "slices": slices,
        "worst_slices": worst_slices(slices[primary], scored[primary]),
        "yes_no": {model: yes_no_recall(table) for model, table in scored.items()},
        "counting": {model: counting_errors(table, level) for model, table in scored.items()},
        "answer_length": f1_by_answer_length(scored, clusters, config),
        "calibration": {model: result for model, result in calibration.items() if result},
        "study": {model: study_variants(table) for model, table in scored.items()},
    }


def answers_all_rows(model: str) -> bool:
    """Whether a model's answers to all rows are scored: it was fitted on none of them.

    Args:
        model: its name; neither a fine-tuned one nor a blind baseline is such a model.
    """
    return model not in FINETUNED_MODELS and not model.startswith("blind-")
