"""Where models are right and wrong: question types, answer lengths, confusions, counting."""

from __future__ import annotations

import numpy as np
import pandas as pd

from abo_vqa.data.normalise import normalise
from abo_vqa.data.questions import parse_number
from abo_vqa.evaluation.statistics import bootstrap, interval
from abo_vqa.reporting.figures.models import forest, kinds
from abo_vqa.reporting.inputs import Results
from abo_vqa.reporting.intervals import wilson
from abo_vqa.reporting.style import (
    BLUE,
    CYCLE,
    INK,
    MARKERS,
    MUTED,
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
from abo_vqa.reporting.words import count, label

_LENGTHS = (("1–3", 0, 3), ("4–5", 4, 5), ("6–7", 6, 7), ("8–9", 8, 9), ("10+", 10, 10**6))
_TOP_ANSWERS = 14


def question_types(results: Results) -> Drawing | None:
    """Accuracy of every model within each question type."""
    models = results.ranking
    table = pd.DataFrame(
        {"model": model, **part}
        for model in models
        for part in results.slices(model, "question_type")
    )
    if table.empty:
        return None
    types = list(dict.fromkeys(table["value"]))
    figure, axes = canvas(0.26 * len(models) + 1.1, len(types), sharey=True, sharex=True)
    for ax, name in zip(axes[0], types, strict=True):
        part = table[table["value"] == name].set_index("model").reindex(models).reset_index()
        forest(ax, part.rename(columns={"value": "type", "accuracy": "value"}), size=4.5)
        ax.set_title(f"{name}\n")
        ax.text(0, 1.02, f"n = {count(part['n'].max())}", transform=ax.transAxes, color=MUTED)
        ax.set_xlim(-0.04, 1.04)
        ax.set_xticks([0, 0.5, 1])
        percent_axis(ax.xaxis)
    caption = "n: test questions of the type; intervals by bootstrap over pictures."
    if len(models) > 1:  # one table of one's own says nothing about its kind of model
        kind_legend(figure, kinds(models), loc="outside lower center", ncols=3)
        caption += (
            " A model is worth its cost on a type only where it clears the blind ones (grey)."
        )
    return Drawing(
        "question-types",
        "Accuracy by question type",
        "95% intervals",
        caption,
        table[["model", "value", "n", "accuracy", "low", "high"]],
        figure,
    )


def answer_length(results: Results) -> Drawing | None:
    """F1 by the length of the expected answer, as in the study, for three telling models."""
    chosen = [results.focus, results.best_zero_shot, results.best_blind]
    models = [m for m in dict.fromkeys(chosen) if m and "f1" in results.scores[m]]
    data = _f1_by_length(results, models)
    if data.empty:
        return None
    groups = [name for name, _, _ in _LENGTHS if name in set(data["characters"])]
    figure, axes = canvas(3.0)
    ax = axes[0][0]
    for i, model in enumerate(models):
        part = data[data["model"] == model].set_index("characters").reindex(groups)
        xs = [x + (i - 1) * 0.08 for x in range(len(groups))]
        ax.plot(xs, part["f1"], marker=MARKERS[i], color=CYCLE[i], lw=1.4, label=label(model))
        ax.vlines(xs, part["low"], part["high"], color=CYCLE[i], lw=1.6, alpha=0.7)
    sizes = data.drop_duplicates("characters").set_index("characters")["n"]
    ax.set_xticks(range(len(groups)), [f"{g}\nn = {count(sizes[g])}" for g in groups])
    ax.set_xlabel("length of the expected answer, characters")
    ax.set_ylabel("mean F1")
    ax.set_ylim(0, 1.02)
    ax.grid(axis="y")
    bare(ax, "bottom")
    figure.legend(loc="outside lower center", ncols=len(models))
    return Drawing(
        "answer-length",
        "F1 by length of the answer",
        "95% intervals",
        "Mean F1, intervals by bootstrap over pictures. Answers are one word, so length is in "
        "characters: the short ones are numbers, yes and no.",
        data,
        figure,
    )


def _f1_by_length(results: Results, models: list[str]) -> pd.DataFrame:
    """Mean F1 by length of the expected answer: model, characters, n, f1, low, high."""
    parts, columns = [], []
    for model in models:
        scores = results.scores[model]
        lengths, f1 = scores["answer"].str.len(), scores["f1"].astype(float)
        for name, low, high in _LENGTHS:
            inside = (lengths >= low) & (lengths <= high)
            if f1[inside].notna().any():
                columns.append(f1.where(inside).to_numpy())
                size, mean = int(inside.sum()), float(f1[inside].mean())
                parts.append({"model": model, "characters": name, "n": size, "f1": mean})
    if not parts:
        return pd.DataFrame()
    pictures = pd.factorize(results.scores[models[0]]["image_path"])[0].astype(np.int64)
    settings = results.config.evaluate
    means = bootstrap(np.column_stack(columns), pictures, settings.resamples, results.config.seed)
    bounds = interval(means, settings.confidence)
    return pd.DataFrame(parts).assign(low=bounds[:, 0], high=bounds[:, 1])


def confusions(results: Results) -> Drawing | None:
    """What is answered instead: expected answers against predictions, for the focus model."""
    scores = results.scores[results.focus]
    # As they are compared: "2" is on the diagonal with "two".
    truth = scores["answer"].map(normalise)
    given = scores["prediction"].map(normalise).replace("", "(empty)")
    top = sorted(truth.value_counts().head(_TOP_ANSWERS).index)
    if len(top) < 2:
        return None
    other = "(other)"
    counts = pd.crosstab(
        truth.where(truth.isin(top), other), given.where(given.isin(top), other)
    ).reindex(index=[*top, other], columns=[*top, other], fill_value=0)
    counts = counts.drop(index=other)
    totals = counts.sum(axis=1)
    shares = counts.div(totals, axis=0).to_numpy(dtype=float)
    figure, axes = canvas(0.27 * len(top) + 1.5)
    ax = axes[0][0]
    mesh = ax.pcolormesh(shares, cmap="Blues", vmin=0, vmax=1, edgecolors="white", lw=1)
    for y, row in enumerate(counts.to_numpy()):
        for x, value in enumerate(row):
            if value:
                dark = shares[y, x] > 0.55
                color = "white" if dark else INK
                cell(ax, x, y, count(value), size=7.5, color=color)
    heatmap_axes(ax, [*top, other], [f"{a}  ({totals[a]})" for a in top])
    ax.set_xlabel("answered")
    ax.set_ylabel("expected (n)")
    percent_axis(colorbar(figure, ax, mesh, "share of the row"))
    tidy = counts.rename_axis(index="expected").reset_index()
    tidy = tidy.melt(id_vars="expected", var_name="answered", value_name="n")
    return Drawing(
        "confusions",
        "What is answered instead",
        f"{label(results.focus)}, n = {count(totals.sum())}",
        f"The {len(top)} most frequent expected answers of the test rows. Numbers: rows; shade: "
        "share of the expected answer's rows. The diagonal is right.",
        tidy[tidy["n"] > 0].sort_values(["expected", "answered"]),
        figure,
    )


def counting(results: Results) -> Drawing | None:
    """How far off the numbers are, on counting questions."""
    chosen = [results.focus, results.best_zero_shot, results.best_blind]
    models = list(dict.fromkeys(m for m in chosen if m))
    table = []
    for model in models:
        scores = results.scores[model]
        part = scores[scores["question_type"] == "counting"]
        truth, given = part["answer"].map(_as_number), part["prediction"].map(_as_number)
        known = truth.notna()
        error = (given - truth)[known].clip(-4, 4)
        for distance, n in error.value_counts(dropna=False).sort_index().items():
            low, high = wilson(n, int(known.sum()))
            table.append({"model": model, "error": distance, "n": n, "share": n / known.sum(),
                          "low": low, "high": high})  # fmt: skip
    data = pd.DataFrame(table)
    if data.empty:
        return None
    figure, axes = canvas(2.7, len(models), sharey=True)
    for ax, model in zip(axes[0], models, strict=True):
        part = data[data["model"] == model]
        xs = part["error"].fillna(6)
        colors = [BLUE if e == 0 else RULE if pd.isna(e) else VERMILION for e in part["error"]]
        ax.bar(xs, part["share"], color=colors, width=0.8)
        ax.vlines(xs, part["low"], part["high"], color=INK, lw=1)
        ax.set_xticks([-4, -2, 0, 2, 4, 6], ["≤−4", "−2", "0", "+2", "≥+4", "none"], size=8)
        ax.set_xlim(-5.2, 7.2)
        ax.set_title(f"{label(model)}, n = {count(part['n'].sum())}")
        ax.grid(axis="y")
        percent_axis(ax.yaxis)
        bare(ax, "bottom")
    axes[0][0].set_ylabel("share of counting questions")
    axes[0][len(models) // 2].set_xlabel("answered minus expected")
    return Drawing(
        "counting",
        "How far off the counts are",
        "counting questions of the test rows, 95% intervals",
        "Blue: right; vermilion: wrong by so many; grey: the answer was no number. Lines are "
        "Wilson intervals.",
        data,
        figure,
    )


def _as_number(text: str) -> float:
    """The number an answer names; NaN if it names none."""
    value = parse_number(normalise(text))
    return float("nan") if value is None else float(value)
