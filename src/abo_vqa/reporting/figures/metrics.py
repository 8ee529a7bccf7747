"""How the metrics relate: the study's correlation heatmap and distributions."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from abo_vqa.reporting.formatting import count, decimal, metric_label, model_label
from abo_vqa.reporting.inputs import Results
from abo_vqa.reporting.style import (
    BLUE,
    INK,
    VERMILION,
    Drawing,
    colorbar,
    heatmap_axes,
    heatmap_cell,
    hide_spines,
    hide_unused,
    new_figure,
)

_BINS = 20
_COLUMNS = 4
# Exact and token match, ROUGE-1 and word overlap look like F1 when answers are single words.
_METRICS = ("f1", "rougeL", "meteor", "wup", "bleu", "bertscore_f1", "bertscore_f1_rescaled",
            "bartscore")  # fmt: skip


def plot_correlation(results: Results) -> Drawing | None:
    """Draw the Pearson correlation of the metrics over one model's rows (the study's heatmap)."""
    names = results.metric_names
    if len(names) < 2:
        return None
    table = results.scores[results.primary_model][names].astype(float)
    grid = table.corr(method="pearson").to_numpy()  # [metrics, metrics]
    figure, axes = new_figure(0.33 * len(names) + 1.5)
    ax = axes[0][0]
    lower = np.ma.masked_invalid(np.where(np.tri(len(names), dtype=bool), grid, np.nan))
    mesh = ax.pcolormesh(lower, cmap="RdBu_r", vmin=-1, vmax=1, edgecolors="white", lw=1.2)
    for y in range(len(names)):
        for x in range(y + 1):
            value = float(grid[y, x])
            text = "·" if math.isnan(value) else decimal(value, 2)
            color = "white" if abs(value) > 0.65 else INK
            heatmap_cell(ax, x, y, text, size=7, color=color)
    labels = [metric_label(name) for name in names]
    heatmap_axes(ax, labels, labels)
    colorbar(figure, ax, mesh, "Pearson's r")
    tidy = pd.DataFrame(
        {"a": a, "b": b, "pearson_r": grid[i, j]}
        for i, a in enumerate(names)
        for j, b in enumerate(names)
    )
    return Drawing(
        f"{model_label(results.primary_model)}, n = {count(len(table))}",
        "Pearson's r over the test rows. With single-word answers, most metrics repeat exact "
        "match. Dot: one of the two metrics is constant.",
        tidy,
        figure,
    )


def plot_distributions(results: Results) -> Drawing | None:
    """Draw a histogram of each metric, stacked by right and wrong answers."""
    names = [name for name in _METRICS if name in results.metric_names]
    if not names:
        return None
    scores = results.scores[results.primary_model]
    right = scores["accuracy"].astype(float) == 1
    rows = math.ceil(len(names) / _COLUMNS)
    figure, axes = new_figure(1.35 * rows + 0.7, _COLUMNS, rows, sharey=True)
    tables = [
        _histogram(ax, name, scores[name].astype(float), right)
        for ax, name in zip(axes.flat, names, strict=False)
    ]
    hide_unused(axes, len(names))
    for row in axes:
        row[0].set_ylabel("rows", size=8)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return Drawing(
        f"{model_label(results.primary_model)}, n = {count(len(scores))}",
        "Test rows. Blue: right by exact match; vermilion: wrong; dashed line: mean. A metric that "
        "gives wrong answers values near 1 isn't suitable as the headline metric.",
        pd.concat(tables, ignore_index=True),
        figure,
    )


def _histogram(ax: Axes, name: str, values: pd.Series, right: pd.Series) -> pd.DataFrame:
    """Draw one metric's histogram; return its numbers."""
    known = values.notna()
    low, high = values.min(), values.max()
    edges = np.linspace(min(low, 0), max(high, 1 if low >= 0 else 0), _BINS + 1)
    n_right, _ = np.histogram(values[known & right], edges)
    n_wrong, _ = np.histogram(values[known & ~right], edges)
    ax.stairs(n_right, edges, fill=True, color=BLUE, label="right")
    ax.stairs(n_right + n_wrong, edges, baseline=n_right, fill=True, color=VERMILION,
              label="wrong")  # fmt: skip
    ax.axvline(values.mean(), color=INK, lw=1, linestyle=(0, (3, 2)))
    ax.set_title(metric_label(name).replace(", ", ",\n"), size=8.5)
    ax.tick_params(labelsize=7.5)
    ax.locator_params(nbins=3)
    hide_spines(ax, "bottom")
    return pd.DataFrame(
        {"metric": name, "low": edges[:-1], "high": edges[1:], "right": n_right,
         "wrong": n_wrong, "mean": values.mean()}
    )  # fmt: skip
