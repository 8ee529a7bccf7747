"""Where models are right and where they are wrong: question types, answer lengths, confusions."""

from __future__ import annotations

import pandas as pd

from abo_vqa.data.normalise import normalise
from abo_vqa.reporting.figures.common import forest_plot, mark_ceiling, present_kinds
from abo_vqa.reporting.formatting import count, model_label
from abo_vqa.reporting.inputs import Results
from abo_vqa.reporting.style import (
    BLUE,
    COLOR_CYCLE,
    INK,
    MARKERS,
    MUTED,
    RULE,
    VERMILION,
    Drawing,
    colorbar,
    heatmap_axes,
    heatmap_cell,
    hide_spines,
    kind_legend,
    new_figure,
    percent_axis,
)

_TOP_ANSWERS = 14
_OTHER = "(other)"
_NOT_A_NUMBER = 6  # where its bar stands on the axis of errors


def plot_question_types(results: Results) -> Drawing | None:
    """Draw the accuracy of every model for each question type."""
    models = results.ranking
    table = pd.DataFrame(
        {"model": model, **part}
        for model in models
        for part in results.slices(model, "question_type")
    )
    if table.empty:
        return None
    types = list(dict.fromkeys(table["value"]))
    figure, axes = new_figure(0.26 * len(models) + 1.1, len(types), sharey=True, sharex=True)
    for ax, name in zip(axes[0], types, strict=True):
        part = table[table["value"] == name].set_index("model").reindex(models).reset_index()
        forest_plot(ax, part.rename(columns={"value": "type", "accuracy": "value"}), size=4.5)
        ax.set_title(f"{name}\n")
        ax.text(0, 1.02, f"n = {count(part['n'].max())}", transform=ax.transAxes, color=MUTED)
        ax.set_xlim(-0.04, 1.04)
        ax.set_xticks([0, 0.5, 1])
        percent_axis(ax.xaxis)
    limit = mark_ceiling(axes[0], results.ceiling)
    caption = "n: test questions of the type; bootstrap intervals over images."
    if len(models) > 1:  # a single table of scores isn't compared with a kind of model
        kind_legend(figure, present_kinds(models), loc="outside lower center", ncols=3)
        caption += " Only a model's gain over the blind baselines (grey) comes from the image."
    return Drawing(
        f"{results.level} intervals{limit}",
        caption,
        table[["model", "value", "n", "accuracy", "low", "high"]],
        figure,
    )


def plot_answer_length(results: Results) -> Drawing | None:
    """Draw F1 by length of the expected answer, as in the study, for three models."""
    by_model = results.evaluation.get("answer_length", {})
    models = [model for model in results.representatives if by_model.get(model)]
    data = pd.DataFrame({"model": model, **row} for model in models for row in by_model[model])
    if data.empty:
        return None
    groups = sorted(set(data["characters"]), key=_first_number)
    figure, axes = new_figure(3.0)
    ax = axes[0][0]
    for i, model in enumerate(models):
        part = data[data["model"] == model].set_index("characters").reindex(groups)
        xs = [x + (i - 1) * 0.08 for x in range(len(groups))]
        ax.plot(
            xs, part["f1"], marker=MARKERS[i], color=COLOR_CYCLE[i], lw=1.4,
            label=model_label(model),
        )  # fmt: skip
        ax.vlines(xs, part["low"], part["high"], color=COLOR_CYCLE[i], lw=1.6, alpha=0.7)
    sizes = data.drop_duplicates("characters").set_index("characters")["n"]
    ax.set_xticks(range(len(groups)), [f"{g}\nn = {count(sizes[g])}" for g in groups])
    ax.set_xlabel("length of the expected answer, characters")
    ax.set_ylabel("mean F1")
    ax.set_ylim(0, 1.02)
    ax.grid(axis="y")
    hide_spines(ax, "bottom")
    figure.legend(loc="outside lower center", ncols=len(models))
    return Drawing(
        f"{results.level} intervals",
        "Mean F1 with bootstrap intervals over images. Answers are single words, so their length "
        "is given in characters: the shortest are numbers, yes and no.",
        data,
        figure,
    )


def _first_number(group: str) -> int:
    return int(group.rstrip("+").split("–")[0])


def plot_confusions(results: Results) -> Drawing | None:
    """Draw the primary model's predictions against the expected answers."""
    scores = results.scores[results.primary_model]
    # As they are compared: "2" is on the diagonal with "two".
    expected = scores["answer"].map(normalise)
    predicted = scores["prediction"].map(normalise).replace("", "(empty)")
    top = sorted(expected.value_counts().head(_TOP_ANSWERS).index)
    if len(top) < 2:
        return None
    counts = _crosstab(expected, predicted, top)
    totals = counts.sum(axis=1)
    shares = counts.div(totals, axis=0).to_numpy(dtype=float)
    figure, axes = new_figure(0.27 * len(top) + 1.5)
    ax = axes[0][0]
    mesh = ax.pcolormesh(shares, cmap="Blues", vmin=0, vmax=1, edgecolors="white", lw=1)
    for y, row in enumerate(counts.to_numpy()):
        for x, value in enumerate(row):
            if value:
                color = "white" if shares[y, x] > 0.55 else INK
                heatmap_cell(ax, x, y, count(value), size=7.5, color=color)
    heatmap_axes(ax, [*top, _OTHER], [f"{a}  ({totals[a]})" for a in top])
    ax.set_xlabel("predicted")
    ax.set_ylabel("expected (n)")
    percent_axis(colorbar(figure, ax, mesh, "share of the row"))
    tidy = counts.rename_axis(index="expected").reset_index()
    tidy = tidy.melt(id_vars="expected", var_name="answered", value_name="n")
    return Drawing(
        f"{model_label(results.primary_model)}, n = {count(totals.sum())}",
        f"The {len(top)} most frequent expected answers of the test rows. Numbers: rows; shade: "
        "share of the expected answer's rows. The diagonal is correct.",
        tidy[tidy["n"] > 0].sort_values(["expected", "answered"]),
        figure,
    )


def _crosstab(expected: pd.Series, predicted: pd.Series, top: list[str]) -> pd.DataFrame:
    """Count predictions [other at the end] by expected answer [only the top ones]."""
    columns = [*top, _OTHER]
    counts = pd.crosstab(
        expected.where(expected.isin(top), _OTHER), predicted.where(predicted.isin(top), _OTHER)
    )
    return counts.reindex(index=top, columns=columns, fill_value=0)


def plot_counting(results: Results) -> Drawing | None:
    """Draw how far off the predicted numbers are, on counting questions."""
    models = results.representatives
    by_model = results.evaluation.get("counting", {})
    data = pd.DataFrame(
        {"model": model, **row}
        for model in models
        for row in by_model.get(model, {}).get("errors", [])
    )
    if data.empty:
        return None
    data["error"] = data["error"].astype(float)  # None, for an answer that is no number, → NaN
    figure, axes = new_figure(2.85, len(models), sharey=True)
    for ax, model in zip(axes[0], models, strict=True):
        part = data[data["model"] == model]
        xs = part["error"].fillna(_NOT_A_NUMBER)
        colors = [BLUE if e == 0 else RULE if pd.isna(e) else VERMILION for e in part["error"]]
        ax.bar(xs, part["share"], color=colors, width=0.8)
        ax.vlines(xs, part["low"], part["high"], color=INK, lw=1)
        ticks = {-4: "≤−4", -2: "−2", 0: "0", 2: "+2", 4: "≥+4", _NOT_A_NUMBER: "none"}
        ax.set_xticks(list(ticks), list(ticks.values()), size=8)
        ax.set_xlim(-5.2, 7.2)
        ax.set_title(f"{model_label(model)}\nn = {count(part['n'].sum())}")
        ax.grid(axis="y")
        percent_axis(ax.yaxis)
        hide_spines(ax, "bottom")
    axes[0][0].set_ylabel("share of counting questions")
    axes[0][len(models) // 2].set_xlabel("predicted minus expected")
    return Drawing(
        f"counting questions of the test rows, {results.level} intervals",
        "Blue: correct; vermilion: off by this much; grey: the answer isn't a number. Lines: "
        "Wilson intervals.",
        data,
        figure,
    )
