"""The prediction browser's data as columns of numbers: every text and row of metrics once."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import pandas as pd

from abo_vqa.reporting.formatting import metric_label, model_kind, model_label

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from abo_vqa.reporting.inputs import Results

    Integers = NDArray[np.int64]

NO_VALUE = np.iinfo(np.int64).min
"""Stands in a column for a metric or confidence that a row doesn't have."""
METRIC_UNITS, CONFIDENCE_UNITS = 10_000, 1_000  # as many a whole: the digits that the page has

_Value = TypeVar("_Value", bound=Hashable)


@dataclass(frozen=True)
class ModelColumns:
    """One model's predictions, in the rows' order.

    Attributes:
        text: [n] positions of the answers among the strings.
        vector: [n] positions among the distinct rows of metrics.
        confidence: [n], NaN for none; None for a model that gives none.
        error: row → position of the error among the strings, for rows that failed.
        correct: [n] whether a row's accuracy is 1.
    """

    text: Integers
    vector: Integers
    confidence: NDArray[np.float64] | None
    error: dict[int, int]
    correct: NDArray[np.bool_]


@dataclass(frozen=True)
class BrowserData:
    """All that the page shows.

    Attributes:
        models: id, name, kind and accuracy of each model, the primary one first.
        metrics: name and label of each metric.
        strings: every distinct text.
        images: the images' paths.
        rows: what doesn't depend on the model, by name: [n] numbers, or positions of strings or
            images.
        predictions: one per model.
        vectors: [V, metrics], the distinct rows of metrics in `METRIC_UNITS`.
    """

    models: list[dict[str, Any]]
    metrics: list[list[str]]
    strings: list[str]
    images: list[str]
    rows: dict[str, Integers]
    predictions: list[ModelColumns]
    vectors: Integers

    @property
    def size(self) -> int:
        """The number of predictions."""
        return len(self.rows["id"]) * len(self.models)


class _DistinctValues(Generic[_Value]):
    """Stores each value once, in the order of their first occurrence."""

    def __init__(self) -> None:
        self._positions: dict[_Value, int] = {}

    def add(self, values: Iterable[_Value]) -> Integers:
        """Add values; return each one's position."""
        positions = self._positions
        added = [positions.setdefault(value, len(positions)) for value in values]
        return np.array(added, dtype=np.int64)

    def as_list(self) -> list[_Value]:
        return list(self._positions)


class _Collector:
    """Collects the columns: texts and rows of metrics are stored once each."""

    def __init__(self, results: Results) -> None:
        self._results = results
        self._models = [results.primary_model, *results.other_models]
        self._strings: _DistinctValues[str] = _DistinctValues()
        self._vectors: _DistinctValues[bytes] = _DistinctValues()

    def collect(self) -> BrowserData:
        base = self._results.scores[self._models[0]]
        image, paths = pd.factorize(base["image_path"])
        rows = self._rows(base, image)
        predictions = [self._predictions(m, rows["id"]) for m in self._models]
        metrics = [[name, metric_label(name)] for name in self._results.metric_names]
        vectors = np.frombuffer(b"".join(self._vectors.as_list()), dtype=np.int64)
        return BrowserData(
            models=[self._model(m) for m in self._models],
            metrics=metrics,
            strings=self._strings.as_list(),
            images=list(paths),
            rows=rows,
            predictions=predictions,
            vectors=vectors.reshape(-1, len(metrics)),
        )

    def _model(self, model: str) -> dict[str, Any]:
        accuracy = self._results.metrics[model]["accuracy"]
        return {
            "id": model,
            "name": model_label(model),
            "kind": model_kind(model),
            "accuracy": accuracy,
        }

    def _texts(self, texts: pd.Series) -> Integers:
        codes, distinct = pd.factorize(texts)  # hashes each row's text once, in C
        return self._strings.add(map(str, distinct))[codes]

    def _rows(self, base: pd.DataFrame, image: Integers) -> dict[str, Integers]:
        """Return what doesn't depend on the model."""
        subtype = "question_subtype" if "question_subtype" in base else "question_type"
        known = base["seen_question"].astype(bool) if "seen_question" in base else ()
        return {
            "id": base["row_id"].to_numpy(dtype=np.int64),
            "image": image.astype(np.int64),
            "question": self._texts(base["question"]),
            "answer": self._texts(base["answer"]),
            "type": self._texts(base["question_type"]),
            "subtype": self._texts(base[subtype]),
            "product": self._texts(base["product_type"]),
            "seen": np.asarray(known, dtype=np.int64),
        }

    def _predictions(self, model: str, row_ids: Integers) -> ModelColumns:
        """Return one model's columns."""
        names = [*self._results.metric_names, "prediction", "confidence", "error"]
        scores = self._results.scores[model].set_index("row_id")[names].loc[row_ids]
        metrics = scores[self._results.metric_names].to_numpy(dtype=float)
        vector = self._metric_rows(in_units(metrics, METRIC_UNITS))
        confidence = scores["confidence"].to_numpy(dtype=float)
        text = self._texts(scores["prediction"])
        error = scores["error"].to_numpy(dtype=object)
        failed = np.flatnonzero(error != "")
        reasons = self._strings.add(error[failed])
        return ModelColumns(
            text=text,
            vector=vector,
            confidence=None if np.isnan(confidence).all() else confidence,
            error=dict(zip(failed.tolist(), reasons.tolist(), strict=True)),
            correct=metrics[:, self._results.metric_names.index("accuracy")] == 1,
        )

    def _metric_rows(self, units: Integers) -> Integers:
        """Add the rows [n, metrics]; return each one's position among the distinct ones."""
        codes = np.zeros(len(units), dtype=np.int64)
        for column in units.T:
            values, distinct = pd.factorize(column)
            codes = pd.factorize(codes * len(distinct) + values)[0]
        first = np.unique(codes, return_index=True)[1]  # codes are in the order they first occur
        return self._vectors.add(row.tobytes() for row in units[first])[codes]


def in_units(values: NDArray[np.float64], units: int) -> Integers:
    """Return values as whole numbers of their last digit.

    Args:
        values: NaN becomes `NO_VALUE`.
        units: how many make a whole, e.g. 1,000 for three digits.
    """
    missing = np.isnan(values)
    return np.where(missing, NO_VALUE, np.rint(np.where(missing, 0, values) * units)).astype(
        np.int64
    )


def collect_browser_data(results: Results) -> BrowserData:
    """Return the data of a run's prediction browser.

    Args:
        results: the run's numbers.
    """
    return _Collector(results).collect()
