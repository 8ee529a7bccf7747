"""Models against each other: levels, gains over blind, paired differences."""

from __future__ import annotations

import pandas as pd

from abo_vqa.reporting.figures.common import (
    NO_INTERVAL,
    forest_plot,
    kind_colors,
    mark_ceiling,
    present_kinds,
)
from abo_vqa.reporting.formatting import count, metric_label, model_label, points
from abo_vqa.reporting.inputs import Results, as_records
from abo_vqa.reporting.style import (
    INK,
    MUTED,
    RULE,
    Drawing,
    colorbar,
    heatmap_axes,
    heatmap_cell,
    hide_spines,
    horizontal_axis_labels,
    kind_legend,
    new_figure,
    percent_axis,
)

_PANELS = ("accuracy", "f1", "wup", "bertscore_f1_rescaled")
_PAIR_COLUMNS = ("difference", "low", "high", "p_adjusted", "significant")


def plot_models(results: Results) -> Drawing:
    """Draw the study's bars per model, with intervals: accuracy, F1, WUP and BERTScore."""
    models = results.ranking
    metrics = [m for m in _PANELS if m in results.metrics[models[0]]]
    figure, axes = new_figure(0.26 * len(models) + 1.1, len(metrics), sharey=True)
    tables = []
    for ax, metric in zip(axes[0], metrics, strict=True):
        table = _metric_by_model(results, metric, models)
        tables.append(table)
        ax.barh(
            range(len(models)), table["value"], color=kind_colors(models), height=0.62, alpha=0.88
        )
        known = table["low"].notna()
        ax.hlines(table.index[known], table["low"][known], table["high"][known], color=INK, lw=1.3)
        ax.set_title(metric_label(metric).replace(", rescaled", ",\nrescaled"))
        ax.axvline(0, color=RULE)
        ax.grid(axis="x")
        hide_spines(ax)
        if metric in ("accuracy", "f1"):
            percent_axis(ax.xaxis)
    horizontal_axis_labels(axes[0][0], [model_label(m) for m in models])
    limit = mark_ceiling([axes[0][metrics.index("accuracy")]], results.ceiling)
    kind_legend(figure, present_kinds(models), loc="outside lower center", ncols=3)
    compared = "are shown for comparison with the study; they give"
    verb = compared if results.external is None else "give"
    return Drawing(
        f"n = {count(results.test_rows)}, {results.level} intervals{limit}",
        f"Lines: bootstrap intervals over images. WUP and BERTScore {verb} credit for near misses "
        "and for common words.",
        pd.concat(tables, ignore_index=True),
        figure,
    )


def _metric_by_model(results: Results, metric: str, models: list[str]) -> pd.DataFrame:
    """Return a tidy table of one metric: metric, model, value, low, high."""
    rows = []
    for model in models:
        low, high = results.interval(model, metric) or NO_INTERVAL
        value = results.metrics[model].get(metric, float("nan"))
        rows.append({"metric": metric, "model": model, "value": value, "low": low, "high": high})
    return pd.DataFrame(rows)


def plot_gain_over_blind(results: Results) -> Drawing | None:
    """Draw each model's paired difference to the best blind baseline."""
    blind = results.best_blind
    others = [model for model in results.ranking if model != blind]
    pairs = [results.pair(model, blind) for model in others] if blind else []
    table = pd.DataFrame(
        {"model": p["a"], "value": p["difference"], "low": p["low"], "high": p["high"]}
        for p in pairs
        if p is not None
    )
    if table.empty or blind is None:
        return None
    figure, axes = new_figure(0.26 * len(table) + 1.0)
    ax = axes[0][0]
    ax.axvline(0, color=INK, linewidth=1)
    forest_plot(ax, table)
    ax.xaxis.set_major_formatter(lambda value, _: points(value, 0))
    ax.set_xlabel(f"accuracy minus {model_label(blind)}, points")
    kind_legend(figure, present_kinds(table["model"]), loc="outside lower center", ncols=3)
    return Drawing(
        f"n = {count(results.test_rows)}, {results.level} intervals",
        "Paired difference to the best baseline that never sees the image "
        f"({model_label(blind)}), with bootstrap intervals over images. Left of the line: worse "
        "than without the image.",
        table,
        figure,
    )


def plot_paired_differences(results: Results) -> Drawing | None:
    """Draw the row's minus the column's accuracy for every pair of models."""
    models = results.ranking
    rows = []
    for a in models:
        for b in models:
            pair = results.pair(a, b) if a != b else None
            if pair is not None:
                rows.append({"a": a, "b": b, **{key: pair.get(key) for key in _PAIR_COLUMNS}})
    if not rows:
        return None
    figure, axes = new_figure(0.36 * len(models) + 1.5)
    ax = axes[0][0]
    data = pd.DataFrame(rows)
    limit = max(abs(data["difference"]).max(), 0.01)
    grid = data.pivot_table(index="a", columns="b", values="difference").reindex(
        index=models, columns=models
    )
    mesh = ax.pcolormesh(grid, cmap="RdBu", vmin=-limit, vmax=limit, edgecolors="white", lw=1.5)
    for row in as_records(data):
        x, y = models.index(row["b"]), models.index(row["a"])
        significant, dark = row["significant"], abs(row["difference"]) > 0.6 * limit
        text, color = (points(row["difference"], 0), INK) if significant else ("n.s.", MUTED)
        heatmap_cell(
            ax,
            x,
            y,
            text,
            size=7.5,
            color="white" if dark else color,
            weight="bold" if significant else "normal",
        )
    labels = [model_label(model) for model in models]
    heatmap_axes(ax, labels, labels)
    colorbar(figure, ax, mesh, "row minus column, points", format=lambda value, _: points(value, 0))
    return Drawing(
        f"n = {count(results.test_rows)}, paired",
        "Accuracy of the row's model minus the column's, in percentage points, on the same test "
        "rows. n.s.: not significant at the 5% level (permutation test clustered by image, "
        "adjusted for the number of comparisons).",
        data,
        figure,
    )
