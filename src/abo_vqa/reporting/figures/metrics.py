"""How the metrics relate: the study's correlation heatmap and distributions."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from abo_vqa.reporting.inputs import Results
from abo_vqa.reporting.style import (
    BLUE,
    INK,
    VERMILION,
    Drawing,
    bare,
    canvas,
    cell,
    colorbar,
    heatmap_axes,
)
from abo_vqa.reporting.words import count, label, metric_label, number

_BINS = 20
# Exact and token match, ROUGE-1 and word overlap look like F1 when answers are one word.
_SHOWN = ("f1", "rougeL", "meteor", "wup", "bleu", "bertscore_f1", "bertscore_f1_rescaled",
         "bartscore")  # fmt: skip


def correlation(results: Results) -> Drawing | None:
    """Pearson correlation of the metrics over one model's rows (study: its heatmap)."""
    names = results.metric_names
    if len(names) < 2:
        return None
    table = results.scores[results.focus][names].astype(float)
    grid = table.corr(method="pearson").to_numpy()  # [metrics, metrics]
    figure, axes = canvas(0.33 * len(names) + 1.5)
    ax = axes[0][0]
    lower = np.ma.masked_invalid(np.where(np.tri(len(names), dtype=bool), grid, np.nan))
    mesh = ax.pcolormesh(lower, cmap="RdBu_r", vmin=-1, vmax=1, edgecolors="white", lw=1.2)
    for y in range(len(names)):
        for x in range(y + 1):
            value = float(grid[y, x])
            text = "·" if math.isnan(value) else number(value, 2)
            color = "white" if abs(value) > 0.65 else INK
            cell(ax, x, y, text, size=7, color=color)
    shown = [metric_label(name) for name in names]
    heatmap_axes(ax, shown, shown)
    colorbar(figure, ax, mesh, "Pearson's r")
    tidy = pd.DataFrame(
        {"a": a, "b": b, "pearson_r": grid[i, j]}
        for i, a in enumerate(names)
        for j, b in enumerate(names)
    )
    return Drawing(
        "metric-correlation",
        "How the metrics agree",
        f"{label(results.focus)}, n = {count(len(table))}",
        "Pearson's r over the test rows. With one-word answers most metrics repeat exact match. "
        "A dot: one of the two is constant.",
        tidy,
        figure,
    )


def distributions(results: Results) -> Drawing | None:
    """Histogram of each metric, right and wrong answers apart."""
    names = [name for name in _SHOWN if name in results.metric_names]
    if not names:
        return None
    scores = results.scores[results.focus]
    right = scores["accuracy"].astype(float) == 1
    columns = 4
    rows = math.ceil(len(names) / columns)
    figure, axes = canvas(1.35 * rows + 0.7, columns, rows, sharey=True)
    tables = []
    for ax, name in zip(axes.flat, names, strict=False):
        values = scores[name].astype(float)
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
        bare(ax, "bottom")
        tables.append(
            pd.DataFrame(
                {"metric": name, "low": edges[:-1], "high": edges[1:], "right": n_right,
                 "wrong": n_wrong, "mean": values.mean()}
            )
        )  # fmt: skip
    for ax in list(axes.flat)[len(names) :]:
        ax.set_visible(False)
    for row in axes:
        row[0].set_ylabel("rows", size=8)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return Drawing(
        "metric-distributions",
        "How the metrics are distributed",
        f"{label(results.focus)}, n = {count(len(scores))}",
        "Test rows. Blue: right by exact match; vermilion: wrong; dashed: mean. A metric that "
        "puts wrong answers near 1 can't headline.",
        pd.concat(tables, ignore_index=True),
        figure,
    )
