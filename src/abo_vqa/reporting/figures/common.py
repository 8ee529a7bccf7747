"""What several figures share: dots with intervals, the legend's kinds of models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from abo_vqa.reporting.ceiling import ceiling_note
from abo_vqa.reporting.formatting import model_kind, model_label
from abo_vqa.reporting.style import KIND_COLORS, MUTED, hide_spines, horizontal_axis_labels

NO_INTERVAL = (float("nan"), float("nan"))


def forest_plot(ax: Axes, table: pd.DataFrame, *, size: float = 5.5) -> None:
    """Draw dots with intervals, one row per model, the first on top, coloured by kind of model.

    Args:
        ax: the axes.
        table: with the columns model, value, low, high; NaN bounds draw no interval.
        size: a dot's diameter in points.
    """
    ys, colors = range(len(table)), kind_colors(table["model"])
    ax.hlines(ys, table["low"], table["high"], colors=colors, lw=2, capstyle="round")
    ax.scatter(table["value"], ys, s=size**2, c=colors, edgecolors="white", zorder=3)
    horizontal_axis_labels(ax, [model_label(model) for model in table["model"]])
    ax.grid(axis="x")
    hide_spines(ax)


def mark_ceiling(
    axes: Iterable[Axes], ceiling: Mapping[str, Any] | None, *, across: bool = False
) -> str:
    """Draw how much can be right at most as a dotted line.

    Args:
        axes: those with an axis of accuracies.
        ceiling: `ceiling` of evaluation.json, None if there is none.
        across: whether the accuracies are on the vertical axis.

    Returns:
        What the figure's note says of the line; "" without one.
    """
    if not ceiling:
        return ""
    for ax in axes:
        draw = ax.axhline if across else ax.axvline
        draw(ceiling["accuracy"], color=MUTED, lw=1.2, linestyle=":", zorder=1)
    return f", dotted: {ceiling_note(ceiling)}"


def kind_colors(models: Iterable[str]) -> list[str]:
    """Return the colour of each model's kind."""
    return [KIND_COLORS[model_kind(model)] for model in models]


def present_kinds(models: Iterable[str]) -> list[str]:
    """Return the kinds of the models, in the order of a legend."""
    present = {model_kind(model) for model in models}
    return [kind for kind in KIND_COLORS if kind in present]
