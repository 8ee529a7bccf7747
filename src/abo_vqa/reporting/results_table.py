"""The table of results that the README and `abo-vqa show` print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from abo_vqa.reporting.formatting import (
    footnote_mark,
    interval_text,
    model_kind,
    model_label,
    percent,
    points,
)
from abo_vqa.reporting.text_table import align_columns

_HEADER = ("model", "accuracy", "gain", "interval", "")
_LEFT_ALIGNED = (3, 4)


def results_table(
    metrics: Mapping[str, Mapping[str, float]], evaluation: Mapping[str, Any], *, markdown: bool
) -> list[str]:
    """Return accuracy, gain over blind and the accuracy's interval, one line per model.

    Of the blind baselines only the best is shown: the one that the gain is measured against.

    Args:
        metrics: the content of reports/metrics.json.
        evaluation: the content of reports/evaluation.json.
        markdown: as Markdown, else in aligned columns.

    Returns:
        The lines, the header first, the best model next.
    """
    blind = evaluation["best_blind"]
    models = [model for model in metrics if model == blind or model_kind(model) != "blind"]
    models.sort(key=lambda model: -metrics[model]["accuracy"])
    rows = [
        (
            model,
            percent(metrics[model]["accuracy"]),
            points(metrics[model]["gain_over_blind"]),
            interval_text(evaluation["intervals"][model]["accuracy"]),
            f"best blind baseline: never sees the image{footnote_mark(model)}"
            if model == blind
            else model_label(model),
        )
        for model in models
    ]
    return _markdown_lines(rows) if markdown else _text_lines(rows)


def _markdown_lines(rows: Sequence[Sequence[str]]) -> list[str]:
    body = [" | ".join((f"`{model}`", *cells)) for model, *cells in rows]
    lines = [f"| {line} |" for line in body]
    return [f"| {' | '.join(_HEADER[:-1])} | |", f"|{'---|' * len(_HEADER)}", *lines]


def _text_lines(rows: Sequence[Sequence[str]]) -> list[str]:
    return align_columns(_HEADER, rows, left=_LEFT_ALIGNED)
