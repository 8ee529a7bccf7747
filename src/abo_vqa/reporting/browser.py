"""The prediction browser: one offline page with every prediction of every model."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from abo_vqa.reporting.inputs import Results
from abo_vqa.reporting.pages import css, environment, script
from abo_vqa.reporting.words import kind, label, metric_label


class _Strings:
    """Texts stored once: `add` gives a text's index."""

    def __init__(self) -> None:
        self.index: dict[str, int] = {}

    def add(self, text: str) -> int:
        return self.index.setdefault(text, len(self.index))

    def column(self, texts: Iterable[Any]) -> list[int]:
        return [self.add(str(text)) for text in texts]


def payload(results: Results, pictures: Mapping[str, str | None]) -> dict[str, Any]:
    """The page's data as columns: texts, pictures and metric values are stored once each.

    Args:
        pictures: picture path → address of its thumbnail (a data URI or a relative path).
    """
    strings = _Strings()
    models = [results.focus, *(m for m in results.ranking if m != results.focus)]
    base = results.scores[models[0]]
    images = {path: i for i, path in enumerate(dict.fromkeys(base["image_path"]))}
    seen = base["seen_question"] if "seen_question" in base else pd.Series(False, base.index)
    subtype = base["question_subtype"] if "question_subtype" in base else base["question_type"]
    rows = {
        "id": [int(row) for row in base["row_id"]],
        "image": [images[path] for path in base["image_path"]],
        "question": strings.column(base["question"]),
        "answer": strings.column(base["answer"]),
        "type": strings.column(base["question_type"]),
        "subtype": strings.column(subtype),
        "product": strings.column(base["product_type"]),
        "seen": [int(bool(value)) for value in seen],
    }
    metrics = results.metric_names
    vectors: dict[tuple[float | None, ...], int] = {}
    predictions = [
        predicted(results.scores[m].set_index("row_id").loc[rows["id"]], metrics, strings, vectors)
        for m in models
    ]
    return {
        "models": [
            {"id": m, "name": label(m), "kind": kind(m), "accuracy": results.metrics[m]["accuracy"]}
            for m in models
        ],
        "metrics": [[name, metric_label(name)] for name in metrics],
        "strings": list(strings.index),
        "images": {"path": list(images), "thumb": [pictures.get(p) or "" for p in images]},
        "rows": rows,
        "predictions": predictions,
        "vectors": [list(vector) for vector in vectors],
    }


def predicted(
    scores: pd.DataFrame,
    metrics: Sequence[str],
    strings: _Strings,
    vectors: dict[tuple[float | None, ...], int],
) -> dict[str, Any]:
    """One model's columns; `vectors` collects the distinct rows of metric values."""
    table = scores[list(metrics)].astype(float).round(4)
    index = [
        vectors.setdefault(tuple(None if math.isnan(x) else x for x in row), len(vectors))
        for row in table.itertuples(index=False, name=None)
    ]
    confidence = scores["confidence"].astype(float)
    return {
        "text": strings.column(scores["prediction"]),
        "confidence": None
        if confidence.isna().all()
        else [None if math.isnan(c) else round(c, 3) for c in confidence],
        "vector": index,
        "error": {
            str(i): strings.add(error) for i, error in enumerate(scores["error"]) if error != ""
        },
    }


def render_browser(title: str, data: Mapping[str, Any]) -> str:
    """The page. `</` and line separators are escaped: data can't end the script element."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return (
        environment()
        .get_template("browser.html.j2")
        .render(
            title=title,
            css=css("base.css", "browser.css"),
            payload=text.replace("<", "\\u003c"),
            script=script("browser.js"),
        )
    )
