"""The report's inputs: the other stages' files, loaded once, and the views that all pages need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from abo_vqa.core.circularity import Part
from abo_vqa.core.config import Config
from abo_vqa.core.errors import UserError
from abo_vqa.core.json_files import read_json
from abo_vqa.core.paths import (
    AUDIT,
    BALANCED,
    EVALUATION,
    FINETUNED_MODEL,
    FUNNEL,
    GENERATION,
    METRICS,
    TEST,
    TRAIN,
    TRAINING,
    TYPES,
    VERIFICATION,
    scores_of,
)
from abo_vqa.core.tables import STUDY_COLUMNS, read_table
from abo_vqa.core.units import format_level
from abo_vqa.data.parquet_files import reading_parquet
from abo_vqa.reporting.circularity import marked_models
from abo_vqa.reporting.formatting import mark_models, model_kind, name_finetuned

if TYPE_CHECKING:
    from abo_vqa.evaluation.results import Evaluation

_TEXT_COLUMNS = ("question", "answer", "prediction", "error", "question_type", "product_type")


@dataclass(frozen=True)
class ExternalTable:
    """A test set that isn't the pipeline's, for `abo-vqa benchmark`.

    Attributes:
        name: its file's name.
        warnings: what makes the numbers too high or too low, for the first page: leaks, missing
            images, models without results.
        notes: what else a reader has to know: what the blind baselines were fitted on, metrics
            that were left out.
        hashes: the name of each file that was read → its MD5.
    """

    name: str
    warnings: Sequence[str]
    notes: Sequence[str]
    hashes: Mapping[str, str]


@dataclass(frozen=True)
class Results:
    """One run's numbers.

    Attributes:
        config: the run's settings.
        metrics: model → metric → value over the test rows (`reports/metrics.json`).
        evaluation: intervals, paired tests, slices, … (`reports/evaluation.json`).
        scores: model → a table with one row per test row and one column per metric.
        training: losses and validation accuracy (`reports/training.json`).
        funnel: counts of the curation (`data/funnel.json`).
        generate: counts of the generation (`data/generate.json`).
        verification: the second opinion (`data/verification.json`).
        audit: the split's audit (`data/audit.json`).
        types: rows per product type: product_type, clean (before balancing), balanced (after it).
        balanced: the balanced table.
        train: the train side of the split.
        test: the test side of the split.
        external: the test set, if it isn't the split's: then there is nothing of curation,
            generation, split and training, and no comparison with the study.
    """

    config: Config
    metrics: Mapping[str, Mapping[str, float]]
    evaluation: Mapping[str, Any]
    scores: Mapping[str, pd.DataFrame]
    training: Mapping[str, Any]
    funnel: Mapping[str, Any]
    generate: Mapping[str, Any]
    verification: Mapping[str, Any]
    audit: Mapping[str, Any]
    types: pd.DataFrame
    balanced: pd.DataFrame
    train: pd.DataFrame
    test: pd.DataFrame
    external: ExternalTable | None = None

    @property
    def title(self) -> str:
        """The pages' title."""
        if self.external is not None:
            return f"Visual question answering on {self.external.name}"
        return self.config.report.title or f"Visual question answering on {self.config.data.name}"

    @property
    def beside_study(self) -> bool:
        """Whether the report compares with the published study."""
        return self.external is None and self.config.data.study

    @property
    def level(self) -> str:
        """The intervals' confidence in words."""
        return format_level(self.config.evaluate.confidence)

    @property
    def ceiling(self) -> Mapping[str, Any] | None:
        """How much can be right at most (`evaluation.ceiling`); None where that isn't known."""
        return self.evaluation.get("ceiling") or None

    @cached_property
    def circular(self) -> Mapping[str, Part]:
        """The models that had a part in making the test rows; none if these aren't the split's."""
        if self.external is not None:
            return {}
        return marked_models(self.config, self.metrics, self.verification)

    @cached_property
    def ranking(self) -> list[str]:
        """Models by accuracy, best first; ties by name."""
        return sorted(self.metrics, key=lambda model: (-self.metrics[model]["accuracy"], model))

    @cached_property
    def best_blind(self) -> str | None:
        """The best model that never sees the image."""
        named = self.evaluation.get("best_blind")
        return named if named in self.metrics else self._best_of_kind("blind")

    @cached_property
    def best_zero_shot(self) -> str | None:
        """The best zero-shot model."""
        return next(iter(self.zero_shot), None)

    @cached_property
    def zero_shot(self) -> list[str]:
        """The zero-shot models, the best first; none of those that choose among train's answers."""
        return [m for m in self.ranking if model_kind(m) == "zero-shot" and not self._ranks(m)]

    def _ranks(self, model: str) -> bool:
        """Whether a model of the profile answers with the likeliest of train's answers."""
        checkpoint = getattr(self.config.models, model, None)
        return checkpoint is not None and checkpoint.decoding == "ranked"

    @cached_property
    def primary_model(self) -> str:
        """The model that figures of a single model show, as in `evaluation.summary`."""
        if FINETUNED_MODEL in self.metrics:
            return FINETUNED_MODEL
        return next((m for m in self.ranking if model_kind(m) != "blind"), self.ranking[0])

    @property
    def other_models(self) -> list[str]:
        """All models but the primary one, best first."""
        return [model for model in self.ranking if model != self.primary_model]

    @cached_property
    def representatives(self) -> list[str]:
        """The primary model, the best zero-shot and the best blind one, as far as there are."""
        chosen = (self.primary_model, self.best_zero_shot, self.best_blind)
        return [model for model in dict.fromkeys(chosen) if model is not None]

    @cached_property
    def metric_names(self) -> list[str]:
        """Metrics with a column in the scores, headline first."""
        columns = self.scores[self.primary_model].columns
        return [name for name in self.metrics[self.primary_model] if name in columns]

    @property
    def test_rows(self) -> float | None:
        """How many rows the headline numbers are over."""
        return self.metrics[self.ranking[0]].get("n")

    def _best_of_kind(self, kind: str) -> str | None:
        return next((model for model in self.ranking if model_kind(model) == kind), None)

    def interval(self, model: str, metric: str = "accuracy") -> tuple[float, float] | None:
        """Return the interval of a model's metric, None if the evaluation has none."""
        bounds = self.evaluation.get("intervals", {}).get(model, {}).get(metric)
        return (bounds[0], bounds[1]) if bounds else None

    def pair(self, a: str, b: str) -> dict[str, Any] | None:
        """Return the comparison of accuracies a minus b, whichever way round it is stored."""
        for pair in self.evaluation.get("pairs", []):
            if pair["metric"] != "accuracy" or {pair["a"], pair["b"]} != {a, b}:
                continue
            if pair["a"] == a:
                return dict(pair)
            reversed_pair = {"a": a, "b": b, "difference": -pair["difference"]}
            return {**pair, **reversed_pair, "low": -pair["high"], "high": -pair["low"]}
        return None

    def slices(self, model: str, name: str) -> list[dict[str, Any]]:
        """Return a model's accuracy for each value of a slice: value, n, accuracy, low, high."""
        return list(self.evaluation.get("slices", {}).get(model, {}).get(name, []))


def load_results(config: Config) -> Results:
    """Read every input of the report.

    Args:
        config: the run's settings.

    Raises:
        UserError: a file is missing or broken (the message names the stage that makes it).
    """
    name_finetuned(config.lora.model)
    metrics = read_json(METRICS)
    if not metrics:
        raise UserError(f"{METRICS} names no model. Run `dvc repro evaluate`.")
    types = read_table(TYPES, ("product_type", "clean", "balanced"))
    results = Results(
        config=config,
        metrics=metrics,
        evaluation=read_json(EVALUATION),
        scores={model: _read_scores(scores_of(model)) for model in metrics},
        training=read_json(TRAINING),
        funnel=read_json(FUNNEL),
        generate=read_json(GENERATION),
        verification=read_json(VERIFICATION),
        audit=read_json(AUDIT),
        types=types.astype({"clean": int, "balanced": int}),
        balanced=read_table(BALANCED, ("image_path", "product_type"), STUDY_COLUMNS),
        train=read_table(TRAIN, ("image_path", "question", "answer")),
        test=read_table(TEST, ("image_path", "question", "answer")),
    )
    mark_models(results.circular)
    return results


def external_results(
    config: Config,
    evaluation: Evaluation,
    test: pd.DataFrame,
    external: ExternalTable,
    audit: Mapping[str, Any],
) -> Results:
    """Return the numbers of a benchmark.

    Args:
        config: the settings.
        evaluation: the evaluation's results.
        test: the rows with image_path, question and answer.
        external: the test set.
        audit: what it shares with the training rows (`audit.audit_split`); {} if nobody looked.
    """
    name_finetuned(config.lora.model)
    mark_models(())
    nothing = pd.DataFrame()
    return Results(
        config=config,
        metrics=evaluation.metrics,
        evaluation=evaluation.details,
        scores=evaluation.scored,
        training={},
        funnel={},
        generate={},
        verification={},
        audit=audit,
        types=nothing,
        balanced=nothing,
        train=nothing,
        test=test,
        external=external,
    )


def as_records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a table as one dict per row, by column name."""
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def _read_scores(path: Path) -> pd.DataFrame:
    """Read one model's scores; missing texts become ""."""
    if not path.is_file():
        raise UserError(f"no scores at {path}. Run `dvc repro evaluate`.")
    with reading_parquet(path, "Run `dvc repro evaluate`."):
        table = pd.read_parquet(path)
    for column in _TEXT_COLUMNS:
        if column not in table:
            raise UserError(f"{path} lacks the column {column}; it has {', '.join(table.columns)}.")
        table[column] = table[column].fillna("").astype(object)
    return table
