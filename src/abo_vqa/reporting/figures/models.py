"""Models against each other: levels, gains over blind, paired differences, the study's table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from abo_vqa.reporting import study
from abo_vqa.reporting.inputs import Results, records
from abo_vqa.reporting.style import (
    BLUE,
    INK,
    KIND,
    MUTED,
    ORANGE,
    RULE,
    VERMILION,
    Drawing,
    bare,
    canvas,
    cell,
    colorbar,
    heatmap_axes,
    kind_legend,
    percent_axis,
)
from abo_vqa.reporting.words import count, kind, label, metric_label, points

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PANELS = ("accuracy", "f1", "wup", "bertscore_f1_rescaled")


def rows(results: Results, metric: str, models: list[str]) -> pd.DataFrame:
    """Tidy table of one metric: model, value, low, high."""
    table = []
    for model in models:
        low, high = results.interval(model, metric) or (float("nan"), float("nan"))
        value = results.metrics[model].get(metric, float("nan"))
        table.append({"metric": metric, "model": model, "value": value, "low": low, "high": high})
    return pd.DataFrame(table)


def forest(ax: Axes, table: pd.DataFrame, *, size: float = 5.5) -> None:
    """Points with intervals, one row a model, first row on top; colours by kind of model.

    Args:
        table: columns model, value, low, high; NaN bounds draw no interval.
    """
    ys, colors = range(len(table)), [KIND[kind(model)] for model in table["model"]]
    ax.hlines(ys, table["low"], table["high"], colors=colors, lw=2, capstyle="round")
    ax.scatter(table["value"], ys, s=size**2, c=colors, edgecolors="white", zorder=3)
    ax.set_yticks(range(len(table)), [label(m) for m in table["model"]])
    ax.set_ylim(len(table) - 0.4, -0.6)
    ax.grid(axis="x")
    bare(ax)


def test_rows(results: Results) -> str:
    """How many rows the headline numbers are over."""
    return count(results.metrics[results.ranking[0]].get("n"))


def kinds(models: list[str]) -> list[str]:
    present = {kind(model) for model in models}
    return [name for name in KIND if name in present]


def per_model(results: Results) -> Drawing:
    """The study's bars per model, with intervals: accuracy, F1, WUP and BERTScore."""
    models = results.ranking
    shown = [m for m in _PANELS if m in results.metrics[models[0]]]
    figure, axes = canvas(0.26 * len(models) + 1.1, len(shown), sharey=True)
    tables = []
    for ax, metric in zip(axes[0], shown, strict=True):
        table = rows(results, metric, models)
        tables.append(table)
        colors = [KIND[kind(m)] for m in models]
        ax.barh(range(len(models)), table["value"], color=colors, height=0.62, alpha=0.88)
        known = table["low"].notna()
        ax.hlines(table.index[known], table["low"][known], table["high"][known], color=INK, lw=1.3)
        ax.set_title(metric_label(metric).replace(", rescaled", ",\nrescaled"))
        ax.axvline(0, color=RULE)
        ax.grid(axis="x")
        bare(ax)
        if metric in ("accuracy", "f1"):
            percent_axis(ax.xaxis)
    axes[0][0].set_yticks(range(len(models)), [label(m) for m in models])
    axes[0][0].set_ylim(len(models) - 0.4, -0.6)
    kind_legend(figure, kinds(models), loc="outside lower center", ncols=3)
    return Drawing(
        "models",
        "Every model on the same test rows",
        f"n = {test_rows(results)}, 95% intervals",
        "Lines: intervals by bootstrap over pictures. WUP and BERTScore are kept for comparison "
        "with the study; they reward near misses and common words.",
        pd.concat(tables, ignore_index=True),
        figure,
    )


def gain_over_blind(results: Results) -> Drawing | None:
    """How much each model gains by looking: paired difference to the best blind baseline."""
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
    figure, axes = canvas(0.26 * len(table) + 1.0)
    ax = axes[0][0]
    ax.axvline(0, color=INK, linewidth=1)
    forest(ax, table)
    ax.xaxis.set_major_formatter(lambda value, _: points(value, 0))
    ax.set_xlabel(f"accuracy minus {label(blind)}, points")
    kind_legend(figure, kinds(list(table["model"])), loc="outside lower center", ncols=3)
    return Drawing(
        "gain-over-blind",
        "What looking at the picture is worth",
        f"n = {test_rows(results)}, 95% intervals",
        f"Paired difference to the best baseline that never sees the picture ({label(blind)}), "
        "intervals by bootstrap over pictures. Left of the line: worse than not looking.",
        table,
        figure,
    )


def paired_differences(results: Results) -> Drawing | None:
    """Row minus column for every pair of models; what is significant after correction."""
    models = results.ranking
    table = []
    for a in models:
        for b in models:
            pair = results.pair(a, b) if a != b else None
            if pair is not None:
                keys = ("difference", "low", "high", "p_adjusted", "significant")
                table.append({"a": a, "b": b, **{key: pair.get(key) for key in keys}})
    if not table:
        return None
    figure, axes = canvas(0.36 * len(models) + 1.5)
    ax = axes[0][0]
    data = pd.DataFrame(table)
    limit = max(abs(data["difference"]).max(), 0.01)
    grid = data.pivot_table(index="a", columns="b", values="difference").reindex(
        index=models, columns=models
    )
    mesh = ax.pcolormesh(grid, cmap="RdBu", vmin=-limit, vmax=limit, edgecolors="white", lw=1.5)
    for row in records(data):
        x, y = models.index(row["b"]), models.index(row["a"])
        sure, dark = row["significant"], abs(row["difference"]) > 0.6 * limit
        text, color = (points(row["difference"], 0), INK) if sure else ("n.s.", MUTED)
        cell(ax, x, y, text, size=7.5, color="white" if dark else color,
             weight="bold" if sure else "normal")  # fmt: skip
    names = [label(model) for model in models]
    heatmap_axes(ax, names, names)
    signed = {"format": lambda value, _: points(value, 0)}
    colorbar(figure, ax, mesh, "row minus column, points", **signed)
    return Drawing(
        "paired-differences",
        "Who beats whom",
        f"n = {test_rows(results)}, paired",
        "Accuracy of the row's model minus the column's, in points, on the same test rows. n.s.: "
        "not significant at 5% (permutation clustered by picture, corrected for the number of "
        "comparisons).",
        data,
        figure,
    )


def study_comparison(results: Results) -> Drawing:
    """The study's comparison of models and this run, side by side."""
    table = study.side_by_side(results)
    scores = study.finetuned_side_by_side(results)
    figure, axes = canvas(3.6, 2, width_ratios=[1.15, 1])
    for ax, part, names in (
        (axes[0][0], table, [label(str(m)) for m in table["model"]]),
        (axes[0][1], scores, [metric_label(str(m)) for m in scores["metric"]]),
    ):
        positions = range(len(part))
        ax.barh([y - 0.2 for y in positions], part["study"], height=0.36, color=ORANGE)
        ax.barh([y + 0.2 for y in positions], part["value"], height=0.36, color=BLUE)
        known = part["low"].notna()
        ys = [y + 0.2 for y in positions if known.iloc[y]]
        ax.hlines(ys, part["low"][known], part["high"][known], color=INK, lw=1.2)
        ax.set_yticks(positions, names)
        ax.set_ylim(len(part) - 0.4, -0.6)
        ax.set_xlim(0, 1)
        ax.grid(axis="x")
        bare(ax)
    percent_axis(axes[0][0].xaxis)
    axes[0][0].set_title("Accuracy")
    axes[0][1].set_title("Fine-tuned BLIP, other metrics")
    from matplotlib.patches import Patch

    handles = [Patch(color=ORANGE, label="study"), Patch(color=BLUE, label="this run")]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    both = pd.concat(
        [table.assign(metric="accuracy"), scores.assign(model="finetuned")], ignore_index=True
    )
    return Drawing(
        "study",
        "The study and this run",
        f"this run: n = {test_rows(results)}, 95% intervals",
        "Orange: printed in the study, each model at its largest sample of the study's rows. "
        "Blue: this run, every model on the same test rows. Levels compare only where both used "
        "the same data.",
        both[["model", "metric", "study", "value", "low", "high"]],
        figure,
    )


def clip_regimes(results: Results) -> Drawing | None:
    """CLIP by the list it may choose from: accuracy by question type."""
    regimes = [m for m in ("clip-fixed", "clip-train", "clip-all") if m in results.metrics]
    if not regimes:
        return None
    table: list[dict[str, Any]] = []
    for model in regimes:
        low, high = results.interval(model) or (float("nan"), float("nan"))
        metrics = results.metrics[model]
        whole = {"value": "all", "n": metrics["n"], "accuracy": metrics["accuracy"]}
        parts = [{**whole, "low": low, "high": high}, *results.slices(model, "question_type")]
        table += [{"model": model, **part} for part in parts]
    data = pd.DataFrame(table)
    groups = list(dict.fromkeys(data["value"]))
    figure, axes = canvas(2.9)
    ax = axes[0][0]
    for i, (model, color) in enumerate(zip(regimes, (ORANGE, BLUE, VERMILION), strict=False)):
        part = data[data["model"] == model].set_index("value").reindex(groups)
        xs = [x + (i - (len(regimes) - 1) / 2) * 0.26 for x in range(len(groups))]
        ax.bar(xs, part["accuracy"], width=0.24, color=color, label=label(model))
        ax.vlines(xs, part["low"], part["high"], color=INK, lw=1.2)
    sizes = data.drop_duplicates("value").set_index("value")["n"]
    ax.set_xticks(range(len(groups)), [f"{g}\nn = {count(sizes[g])}" for g in groups])
    ax.grid(axis="y")
    percent_axis(ax.yaxis)
    ax.set_ylabel("accuracy")
    ax.legend(loc="best")
    bare(ax, "bottom")
    return Drawing(
        "clip-regimes",
        "CLIP by the list it chooses from",
        "95% intervals",
        "Fixed: a list of common words. Train: the answers seen in train. All: every answer of "
        "the data, those of the test rows included, as in the study.",
        data[["model", "value", "n", "accuracy", "low", "high"]],
        figure,
    )
