"""Tables as GitHub Markdown: what templates can't lay out without breaking lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from abo_vqa.reporting.formatting import (
    count,
    format_value,
    interval_text,
    model_label,
    percent,
    points,
)


def markdown_table(
    header: Sequence[str], rows: Sequence[Sequence[object]], *, numbers: bool = True
) -> str:
    """Lay out a table. No newline at the end.

    Args:
        header: the columns' names.
        rows: their cells.
        numbers: whether all columns but the first are numbers, which are right-aligned.
    """
    rule = ["---", *["--:" if numbers else "---"] * (len(header) - 1)]
    return "\n".join(_table_row(cells) for cells in (header, rule, *rows))


def _table_row(cells: Sequence[object]) -> str:
    texts = [str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells]
    return f"| {' | '.join(texts)} |"


def headline_table(rows: Sequence[Mapping[str, Any]], level: str, note: str = "") -> str:
    """Lay out accuracy, gain over blind and their intervals.

    Args:
        rows: the models (`tables.headline_rows`).
        level: the intervals' confidence in words.
        note: what belongs to the name of the accuracies' column.
    """
    accuracy = f"accuracy ({note})" if note else "accuracy"
    interval = f"{level} interval"
    header = ("model", accuracy, interval, "gain over blind", interval, "answered")
    body = []
    for row in rows:
        name = f"**{row['name']}**" if row["kind"] == "finetuned" else row["name"]
        gain = points(row["gain"]), interval_text(row["gain_interval"], signed=True)
        body.append(
            (
                name,
                percent(row["accuracy"]),
                interval_text(row["interval"]),
                *(("best blind", "") if row["is_blind_best"] else gain),
                percent(row["coverage"]),
            )
        )
    return markdown_table(header, body)


def slice_table(part: Mapping[str, Any]) -> str:
    """Lay out accuracy and interval for each value of a slice (from `tables.slice_tables`)."""
    header = ["", "n", *(model_label(model) for model in part["models"])]
    rows = [
        [row["value"], count(row["n"]), *(_accuracy(cell) for cell in row["cells"])]
        for row in part["rows"]
    ]
    return markdown_table(header, rows)


def _accuracy(cell: Mapping[str, Any] | None) -> str:
    if cell is None:
        return "–"
    return f"{percent(cell['accuracy'])} ({interval_text((cell['low'], cell['high']))})"


def value_table(header: Sequence[str], rows: Sequence[tuple[str, object]]) -> str:
    """Lay out names with a count, a share or a word each."""
    return markdown_table(header, [(name, format_value(value)) for name, value in rows])
