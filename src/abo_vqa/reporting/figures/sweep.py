"""The settings of a search by test accuracy, with the accuracy of each seed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from abo_vqa.core.units import format_level
from abo_vqa.evaluation.settings_comparison import SettingsComparison
from abo_vqa.evaluation.sweep import Sweep
from abo_vqa.reporting.figures.common import mark_ceiling
from abo_vqa.reporting.figures.register import write_figure
from abo_vqa.reporting.formatting import count
from abo_vqa.reporting.style import (
    BLUE,
    INK,
    MUTED,
    VERMILION,
    Drawing,
    add_title,
    hide_spines,
    horizontal_axis_labels,
    new_figure,
    percent_axis,
    report_style,
)

_LEGEND = (
    "accuracy. Dot: test (orange: may be the best), small dots: its seeds, diamond: validation"
)
_LONGEST = 60  # characters of a label


def draw_sweep(
    sweep: Sweep, confidence: float, folder: Path, ceiling: Mapping[str, Any] | None = None
) -> Path | None:
    """Draw the settings that were tested on the same rows, with intervals for images and seeds.

    Those that can't be told from the best are in its colour; small dots are the seeds' accuracies,
    hollow diamonds validation.

    Args:
        sweep: the experiments.
        confidence: of the intervals, e.g. 0.95.
        folder: where sweep.png and data/sweep.csv are written.
        ceiling: how much of the test rows can be right at most; None if nobody knows.

    Returns:
        The image's path; None if no experiment has test scores.
    """
    if not sweep.comparisons:
        return None
    comparison = sweep.comparisons[0]
    table = _table(sweep, comparison)
    with report_style():
        figure, axes = new_figure(0.3 * len(table) + 1.3)
        ax, ys = axes[0][0], list(range(len(table)))
        colors = [VERMILION if tied else BLUE for tied in table["tied_with_best"]]
        ax.hlines(ys, table["low"], table["high"], colors=colors, lw=2, capstyle="round")
        ax.scatter(table["value"], ys, s=36, c=colors, edgecolors="white", zorder=3)
        for y, scores in zip(ys, comparison.scores.values(), strict=True):
            if len(scores.accuracies) > 1:
                below = [y + 0.22] * len(scores.accuracies)
                ax.scatter(scores.accuracies, below, s=7, c=MUTED, zorder=2)
        ax.scatter(
            table["validation"], ys, s=26, marker="D", facecolors="none", edgecolors=INK, zorder=4
        )
        horizontal_axis_labels(ax, [_label(name) for name in table["settings"]])
        percent_axis(ax.xaxis)
        ax.grid(axis="x")
        ax.set_xlabel(_LEGEND)
        hide_spines(ax)
        limit = mark_ceiling([ax], ceiling)
        note = f"n = {count(sweep.test_rows[0][0])}, {format_level(confidence)} intervals{limit}"
        add_title(figure, "Settings by test accuracy", note)
        return write_figure("sweep", Drawing(note, "", table, figure), folder)


def _label(name: str) -> str:
    short = name.replace("lora.", "")
    return short if len(short) <= _LONGEST else f"{short[: _LONGEST - 1]}…"


def _table(sweep: Sweep, comparison: SettingsComparison) -> pd.DataFrame:
    """One row per settings, the best first."""
    rows = {row.name: row for row in sweep.rows}
    validation = {name: rows[name].mean("validation") for name in comparison.estimates}
    return pd.DataFrame(
        {
            "settings": name,
            "value": estimate.value,
            "low": estimate.low,
            "high": estimate.high,
            "validation": float("nan") if validation[name] is None else validation[name],
            "tied_with_best": comparison.ranks[name][0] == 1,
        }
        for name, estimate in comparison.estimates.items()
    )
