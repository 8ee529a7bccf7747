"""From predictions to score tables: one row per question, one column per metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from abo_vqa.core.errors import UserError
from abo_vqa.core.units import format_level
from abo_vqa.evaluation.distinct_pairs import distinct_pairs
from abo_vqa.evaluation.metric_choice import group_by_scorer
from abo_vqa.evaluation.pair_scores import METRIC_NAMES, PairScores, score_pairs
from abo_vqa.evaluation.study_fractions import study_fractions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from abo_vqa.core.config import Config
    from abo_vqa.core.engine.work import RunMap

ALL_ROWS_METRICS = ("exact_match", "f1", "bertscore_f1")  # what the study prints for its samples


def score_test_rows(
    tables: Mapping[str, pd.DataFrame],
    config: Config,
    device: str,
    metrics: Sequence[str] | None = None,
    *,
    required: bool = True,
    run: RunMap = map,
) -> tuple[dict[str, pd.DataFrame], dict[str, str], list[str]]:
    """Score every model's predictions of the test rows; a pair that several have is scored once.

    Args:
        tables: model → rows with prediction, answer and error.
        config: the neural metrics' models and the alias table.
        device: where the neural metrics are computed.
        metrics: "alias_accuracy" and names of `METRIC_NAMES`, exact match and F1 among them; None
            for all.
        required: whether a neural metric's model that can't be used is an error; else its metrics
            are left out.
        run: see `pair_scores.score_pairs`.

    Returns:
        Model → its table with a column per metric; the metrics' signatures; and why metrics were
        left out.

    Raises:
        UserError: a required model can't be used.
    """
    references = sorted({answer for table in tables.values() for answer in table["answer"]})
    pairs = distinct_pairs(list(tables.values()))
    metrics = metrics or ("alias_accuracy", *METRIC_NAMES)
    groups = [list(metrics)] if required else list(group_by_scorer(metrics).values())
    scores, notes = PairScores(pairs.pairs), []
    for names in groups:
        try:
            part = score_pairs(
                pairs.pairs, names, references=references, scorers=config.scorers,
                alias_table=config.evaluate.aliases, device=device, run=run,
            )  # fmt: skip
        except UserError as error:
            if required:
                raise
            notes.append(f"left out: {', '.join(names)}: {error}")
            continue
        scores.values.update(part.values)
        scores.signature.update(part.signature)
    signature = {
        "accuracy": "exact match after normalisation; a failed row counts as wrong",
        **scores.signature,
        "intervals": f"percentile bootstrap over images, {config.evaluate.resamples} resamples, "
        f"{format_level(config.evaluate.confidence)}, seed {config.seed}",
    }
    scored = {
        model: _add_scores(table, scores, positions)
        for (model, table), positions in zip(tables.items(), pairs.positions, strict=True)
    }
    return scored, signature, notes


def score_all_rows(
    predictions: Mapping[str, pd.DataFrame],
    answers: pd.Series,
    config: Config,
    device: str,
    run: RunMap = map,
) -> dict[str, list[dict[str, float]]]:
    """Score the study's fractions of all rows, train and test together.

    Args:
        predictions: model → its predictions by row_id, in sampling order.
        answers: those of all rows.
        config: the neural metrics' models.
        device: where the neural metrics are computed.
        run: see `pair_scores.score_pairs`.

    Returns:
        Model → `study_fractions` of its answers.
    """
    tables = [
        table.assign(answer=answers.take(table.index.to_numpy()).array)
        for table in predictions.values()
    ]
    pairs = distinct_pairs(tables)
    scores = score_pairs(
        pairs.pairs, ALL_ROWS_METRICS, scorers=config.scorers, device=device, run=run
    )
    fractions = {}
    for model, positions in zip(predictions, pairs.positions, strict=True):
        scored = _add_scores(tables.pop(0), scores, positions)  # one at a time in memory
        fractions[model] = study_fractions(scored, len(answers), ALL_ROWS_METRICS[1:])
    return fractions


def _add_scores(
    table: pd.DataFrame, scores: PairScores, positions: NDArray[np.int64]
) -> pd.DataFrame:
    """The table with accuracy and a column per metric.

    A failed row has no score in any metric; only the accuracies count it, as wrong.
    """
    columns = scores.columns(positions)
    columns["accuracy"] = np.nan_to_num(columns["exact_match"])
    if "alias_accuracy" in columns:
        columns["alias_accuracy"] = np.nan_to_num(columns["alias_accuracy"])
    return table.assign(**columns)


def metric_columns(table: pd.DataFrame) -> list[str]:
    """Return the metrics among a score table's columns, the headline metrics first.

    Args:
        table: a score table; its metrics follow the column error.
    """
    start = list(table.columns).index("error") + 1
    names = list(table.columns[start:])
    headline = [name for name in ("accuracy", "alias_accuracy") if name in names]
    return headline + [name for name in names if name not in headline]
