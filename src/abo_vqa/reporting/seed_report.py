"""Several seeds of the same settings, as text and as a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from abo_vqa.core.units import format_level
from abo_vqa.reporting.ceiling import ceiling_caption
from abo_vqa.reporting.figures.common import mark_ceiling
from abo_vqa.reporting.figures.register import write_figure
from abo_vqa.reporting.formatting import count, interval_text, percent
from abo_vqa.reporting.style import (
    BLUE,
    INK,
    VERMILION,
    Drawing,
    add_title,
    hide_spines,
    horizontal_axis_labels,
    new_figure,
    percent_axis,
    report_style,
)
from abo_vqa.reporting.text_table import align_columns

_HEADER = ("seed", "validation", "test", "interval", "seconds")


def seeds_text(summary: Mapping[str, Any]) -> str:
    """Lay out a table with one line per seed, the mean and what it means.

    Args:
        summary: the content of seeds.json.
    """
    test, validation, runs = summary["test"], summary["validation"], summary["runs"]
    rows = [
        (
            str(run["seed"]),
            percent(run["validation"]),
            percent(run["test"]),
            interval_text((run["low"], run["high"])),
            count(run["seconds"]),
        )
        for run in runs
    ]
    rows.append(("mean", percent(validation["mean"]), percent(test["mean"]), _interval(test), ""))
    rows.append(("sd", _points(validation["sd"]), _points(test["sd"]), "", ""))
    level = format_level(summary["confidence"])
    return "\n".join(
        [
            *align_columns(_HEADER, rows, left=(3,)),
            "",
            f"accuracy {percent(test['mean'])}, {level} interval {_interval(test)} for images and "
            f"seeds; for images alone {_interval(test, 'images_')}.",
            f"sd between seeds {_points(test['sd'])} points; {len(runs)} seeds, "
            f"{count(summary['test_rows'])} questions about {count(summary['test_images'])} "
            "images. A seed's own interval is for images.",
            *([caption] if (caption := ceiling_caption(summary.get("ceiling"))) else []),
        ]
    )


def _interval(test: Mapping[str, Any], prefix: str = "") -> str:
    return interval_text((test[f"{prefix}low"], test[f"{prefix}high"]))


def _points(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def draw_seeds(summary: Mapping[str, Any], folder: Path) -> Path:
    """Draw each seed's accuracy with its interval, and the mean with both intervals.

    Args:
        summary: the content of seeds.json.
        folder: where seeds.png and data/seeds.csv are written.

    Returns:
        The image's path.
    """
    test, runs = summary["test"], summary["runs"]
    columns = ("value", "low", "high")
    table = pd.DataFrame(
        [{"row": f"seed {run['seed']}", **_values(run, "test", columns)} for run in runs]
        + [
            {"row": "mean, images", **_values(test, "mean", columns, "images_")},
            {"row": "mean, images and seeds", **_values(test, "mean", columns)},
        ]
    )
    with report_style():
        figure, axes = new_figure(0.26 * len(table) + 1.1)
        ax, ys = axes[0][0], range(len(table))
        colors = _colors(len(runs))
        ax.axvline(test["mean"], color=INK, lw=0.8)
        ax.hlines(ys, table["low"], table["high"], colors=colors, lw=2, capstyle="round")
        ax.scatter(table["value"], ys, s=30, c=colors, edgecolors="white", zorder=3)
        horizontal_axis_labels(ax, table["row"].tolist())
        percent_axis(ax.xaxis)
        ax.grid(axis="x")
        ax.set_xlabel("accuracy on the test rows")
        hide_spines(ax)
        limit = mark_ceiling([ax], summary.get("ceiling"))
        level = format_level(summary["confidence"])
        note = f"n = {count(summary['test_rows'])}, {level} intervals{limit}"
        drawing = Drawing(note, "", table, figure)
        add_title(figure, f"{len(runs)} seeds of the same settings", note)
        return write_figure("seeds", drawing, folder)


def _values(
    numbers: Mapping[str, Any], value: str, columns: Sequence[str], prefix: str = ""
) -> dict[str, float | None]:
    names = (value, f"{prefix}low", f"{prefix}high")
    return {column: numbers[name] for column, name in zip(columns, names, strict=True)}


def _colors(seeds: int) -> list[str]:
    return [BLUE] * seeds + [VERMILION] * 2
