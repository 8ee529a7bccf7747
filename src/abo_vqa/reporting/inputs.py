"""What the report reads: the other stages' files, loaded once, and the views all pages need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from abo_vqa.config import Config
from abo_vqa.core.errors import UserError
from abo_vqa.core.json_files import read_json
from abo_vqa.core.paths import DATA, REPORTS
from abo_vqa.core.tables import STUDY_COLUMNS, read_table
from abo_vqa.reporting.words import kind


@dataclass(frozen=True)
class Results:
    """One run's numbers.

    Attributes:
        metrics: model → metric → value over the test rows (`reports/metrics.json`).
        evaluation: intervals, paired tests, slices, … (`reports/evaluation.json`).
        scores: model → one row a test row, one column a metric.
        training: losses and validation accuracy (`reports/training.json`).
        funnel, generate, audit: counts of curation, annotation and split.
        types: product_type, clean, balanced: rows before and after balancing.
        balanced: the balanced table; train, test: the two sides of the split.
    """

    config: Config
    metrics: Mapping[str, Mapping[str, float]]
    evaluation: Mapping[str, Any]
    scores: Mapping[str, pd.DataFrame]
    training: Mapping[str, Any]
    funnel: Mapping[str, Any]
    generate: Mapping[str, Any]
    audit: Mapping[str, Any]
    types: pd.DataFrame
    balanced: pd.DataFrame
    train: pd.DataFrame
    test: pd.DataFrame

    @cached_property
    def ranking(self) -> list[str]:
        """Models by accuracy, best first; equal ones by name."""
        return sorted(self.metrics, key=lambda model: (-self.metrics[model]["accuracy"], model))

    @cached_property
    def best_blind(self) -> str | None:
        """The best model that never sees the picture."""
        named = self.evaluation.get("best_blind")
        blind = [model for model in self.ranking if kind(model) == "blind"]
        return named if named in self.metrics else next(iter(blind), None)

    @cached_property
    def best_zero_shot(self) -> str | None:
        return next((model for model in self.ranking if kind(model) == "zero-shot"), None)

    @cached_property
    def focus(self) -> str:
        """The model the figures about one model show: the fine-tuned one, else the best."""
        return "finetuned" if "finetuned" in self.metrics else self.ranking[0]

    @cached_property
    def metric_names(self) -> list[str]:
        """Metrics with a column in the scores, headline first."""
        columns = self.scores[self.focus].columns
        return [name for name in self.metrics[self.focus] if name in columns]

    def interval(self, model: str, metric: str = "accuracy") -> tuple[float, float] | None:
        """The 95% interval of a model's metric, if evaluation made one."""
        found = self.evaluation.get("intervals", {}).get(model, {}).get(metric)
        return (found[0], found[1]) if found else None

    def pair(self, a: str, b: str, metric: str = "accuracy") -> dict[str, Any] | None:
        """The paired comparison a minus b, whichever way round evaluation stored it."""
        for pair in self.evaluation.get("pairs", []):
            if pair["metric"] != metric or {pair["a"], pair["b"]} != {a, b}:
                continue
            if pair["a"] == a:
                return dict(pair)
            turned = {"a": a, "b": b, "difference": -pair["difference"]}
            return {**pair, **turned, "low": -pair["high"], "high": -pair["low"]}
        return None

    def slices(self, model: str, name: str) -> list[dict[str, Any]]:
        """Accuracy of a model within the values of one slice: value, n, accuracy, low, high."""
        return list(self.evaluation.get("slices", {}).get(model, {}).get(name, []))


def load(config: Config, reports: Path = REPORTS, data: Path = DATA) -> Results:
    """Read every input of the report.

    Raises:
        UserError: a file is missing or broken (it says which stage makes it).
    """
    metrics = read_json(reports / "metrics.json")
    if not metrics:
        raise UserError(f"{reports / 'metrics.json'} names no model. Run `dvc repro evaluate`.")
    types = read_table(data / "types.csv", ("product_type", "clean", "balanced"))
    scores = {model: _read_scores(reports / "scores" / f"{model}.parquet") for model in metrics}
    return Results(
        config=config,
        metrics=metrics,
        evaluation=read_json(reports / "evaluation.json"),
        scores=scores,
        training=read_json(reports / "training.json"),
        funnel=read_json(data / "funnel.json"),
        generate=read_json(data / "generate.json"),
        audit=read_json(data / "audit.json"),
        types=types.astype({"clean": int, "balanced": int}),
        balanced=read_table(data / "balanced.csv", ("image_path", "product_type"), STUDY_COLUMNS),
        train=read_table(data / "train.csv", ("image_path", "question", "answer")),
        test=read_table(data / "test.csv", ("image_path", "question", "answer")),
    )


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """A table as a list of rows by column name."""
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def _read_scores(path: Path) -> pd.DataFrame:
    """One model's scores, row by row."""
    if not path.is_file():
        raise UserError(f"no scores at {path}. Run `dvc repro evaluate`.")
    table = pd.read_parquet(path)
    for column in ("question", "answer", "prediction", "error", "question_type", "product_type"):
        if column not in table:
            raise UserError(f"{path} lacks the column {column}; it has {', '.join(table.columns)}.")
        table[column] = table[column].fillna("").astype(object)
    return table
