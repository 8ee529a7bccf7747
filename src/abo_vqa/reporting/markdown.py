"""Tables as Markdown (GitHub's): what templates can't lay out without breaking lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from abo_vqa.reporting.words import count, label, percent, plain, points, span


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table whose columns after the first are numbers, right-aligned; ends without a newline."""
    rule = ["---", *["--:"] * (len(header) - 1)]
    return "\n".join(line(cells) for cells in (header, rule, *rows))


def line(cells: Sequence[Any]) -> str:
    shown = [str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells]
    return f"| {' | '.join(shown)} |"


def headline_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Models with accuracy, gain over blind and their intervals (rows of `tables.headline`)."""
    header = ("model", "accuracy", "95% interval", "gain over blind", "95% interval", "answered")
    shown = []
    for row in rows:
        name = f"**{row['name']}**" if row["kind"] == "finetuned" else row["name"]
        gain = points(row["gain"]), span(row["gain_interval"], signed=True)
        shown.append(
            (
                name,
                percent(row["accuracy"]),
                span(row["interval"]),
                *(("the floor", "") if row["is_blind_best"] else gain),
                percent(row["coverage"]),
            )
        )
    return table(header, shown)


def slice_table(part: Mapping[str, Any]) -> str:
    """Accuracy and interval by the values of one slice (an item of `tables.slice_tables`)."""
    header = ["", "n", *(label(model) for model in part["models"])]
    rows = [
        [row["value"], count(row["n"]), *(accuracy(cell) for cell in row["cells"])]
        for row in part["rows"]
    ]
    return table(header, rows)


def accuracy(cell: Mapping[str, Any] | None) -> str:
    if cell is None:
        return "–"
    return f"{percent(cell['accuracy'])} ({span((cell['low'], cell['high']))})"


def pairs_table(header: Sequence[str], rows: Sequence[tuple[str, Any]]) -> str:
    """Names with a count, share or word each."""
    return table(header, [(name, plain(value)) for name, value in rows])
