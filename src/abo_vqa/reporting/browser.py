"""The prediction browser: one offline page with every prediction of every model."""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, Generic, TypeVar

import pandas as pd

from abo_vqa.reporting.formatting import metric_label, model_kind, model_label
from abo_vqa.reporting.inputs import Results
from abo_vqa.reporting.pages import read_assets, template_environment

_Value = TypeVar("_Value", bound=Hashable)


class _DistinctValues(Generic[_Value]):
    """Stores each value once; `add` returns a value's position."""

    def __init__(self) -> None:
        self._positions: dict[_Value, int] = {}

    def add(self, value: _Value) -> int:
        return self._positions.setdefault(value, len(self._positions))

    def as_list(self) -> list[_Value]:
        return list(self._positions)


class _Payload:
    """Collects the page's data as columns: texts and rows of metric values are stored once each."""

    def __init__(self, results: Results) -> None:
        self._results = results
        self._models = [results.primary_model, *results.other_models]
        self._strings: _DistinctValues[str] = _DistinctValues()
        self._vectors: _DistinctValues[tuple[float | None, ...]] = _DistinctValues()

    def build(self, thumbnails: Mapping[str, str | None]) -> dict[str, Any]:
        """Return the data.

        Args:
            thumbnails: image path → address of its thumbnail (a data URI or a relative path).
        """
        base = self._results.scores[self._models[0]]
        images = {path: i for i, path in enumerate(dict.fromkeys(base["image_path"]))}
        rows = self._rows(base, images)
        scores = {m: self._results.scores[m].set_index("row_id") for m in self._models}
        predictions = [self._predictions(scores[m].loc[rows["id"]]) for m in self._models]
        return {
            "models": [self._model(m) for m in self._models],
            "metrics": [[name, metric_label(name)] for name in self._results.metric_names],
            "strings": self._strings.as_list(),
            "images": {"path": list(images), "thumb": [thumbnails.get(p) or "" for p in images]},
            "rows": rows,
            "predictions": predictions,
            "vectors": [list(vector) for vector in self._vectors.as_list()],
        }

    def _model(self, model: str) -> dict[str, Any]:
        accuracy = self._results.metrics[model]["accuracy"]
        return {
            "id": model,
            "name": model_label(model),
            "kind": model_kind(model),
            "accuracy": accuracy,
        }

    def _texts(self, texts: Iterable[object]) -> list[int]:
        return [self._strings.add(str(text)) for text in texts]

    def _rows(self, base: pd.DataFrame, images: Mapping[str, int]) -> dict[str, list[int]]:
        """Return what doesn't depend on the model."""
        subtype = "question_subtype" if "question_subtype" in base else "question_type"
        return {
            "id": [int(row) for row in base["row_id"]],
            "image": [images[path] for path in base["image_path"]],
            "question": self._texts(base["question"]),
            "answer": self._texts(base["answer"]),
            "type": self._texts(base["question_type"]),
            "subtype": self._texts(base[subtype]),
            "product": self._texts(base["product_type"]),
            "seen": [int(bool(value)) for value in base.get("seen_question", [])],
        }

    def _predictions(self, scores: pd.DataFrame) -> dict[str, Any]:
        """Return one model's columns."""
        table = scores[self._results.metric_names].astype(float).round(4)
        vectors = [
            self._vectors.add(tuple(None if math.isnan(x) else x for x in row))
            for row in table.itertuples(index=False, name=None)
        ]
        confidence = scores["confidence"].astype(float)
        return {
            "text": self._texts(scores["prediction"]),
            "confidence": None
            if confidence.isna().all()
            else [None if math.isnan(c) else round(c, 3) for c in confidence],
            "vector": vectors,
            "error": {
                str(i): self._strings.add(error)
                for i, error in enumerate(scores["error"])
                if error != ""
            },
        }


def browser_payload(results: Results, thumbnails: Mapping[str, str | None]) -> dict[str, Any]:
    """Return the page's data as columns.

    Args:
        results: the run's numbers.
        thumbnails: image path → address of its thumbnail (a data URI or a relative path).
    """
    return _Payload(results).build(thumbnails)


def render_browser(title: str, payload: Mapping[str, Any]) -> str:
    """Render browser.html; `<` is escaped, so that data can't end the script element."""
    text = json.dumps(payload, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    template = template_environment().get_template("browser.html.j2")
    return template.render(
        title=title,
        css=read_assets("base.css", "browser.css"),
        payload=text.replace("<", "\\u003c"),
        script=read_assets("browser.js"),
    )
