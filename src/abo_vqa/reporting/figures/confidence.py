"""Whether a model knows when it is wrong: calibration, risk against coverage."""

from __future__ import annotations

import numpy as np
import pandas as pd

from abo_vqa.reporting.inputs import Results
from abo_vqa.reporting.intervals import wilson
from abo_vqa.reporting.style import (
    CYCLE,
    MARKERS,
    MUTED,
    RULE,
    Drawing,
    bare,
    canvas,
    percent_axis,
)
from abo_vqa.reporting.words import count, kind, label

SHOWN = 6
BINS = 10


def confident(results: Results) -> list[str]:
    """Models that see the picture and give a confidence, best first."""
    seen = [m for m in results.ranking if kind(m) != "blind"]
    return [m for m in seen if results.scores[m]["confidence"].notna().mean() > 0.5][:SHOWN]


def calibration(results: Results) -> Drawing | None:
    """Accuracy within bins of confidence; the diagonal is perfect calibration."""
    models = confident(results)
    if not models:
        return None
    table = []
    for model in models:
        scores = results.scores[model].dropna(subset=["confidence"])
        bins = np.minimum((scores["confidence"] * BINS).astype(int), BINS - 1)
        for index, part in scores.groupby(bins):
            right = float(part["accuracy"].sum())
            low, high = wilson(right, len(part))
            table.append(
                {"model": model, "bin": int(str(index)), "n": len(part), "low": low, "high": high,
                 "confidence": part["confidence"].mean(), "accuracy": right / len(part)}
            )  # fmt: skip
    data = pd.DataFrame(table)
    columns = min(3, len(models))
    rows = -(-len(models) // columns)
    figure, axes = canvas(2.35 * rows, columns, rows, sharex=True, sharey=True)
    for ax, model in zip(axes.flat, models, strict=False):
        part = data[data["model"] == model]
        ax.plot([0, 1], [0, 1], color=RULE, lw=1.2)
        ax.vlines(part["confidence"], part["low"], part["high"], color=CYCLE[0], lw=1.4, alpha=0.6)
        area = 8 + 90 * part["n"] / part["n"].sum()
        ax.scatter(part["confidence"], part["accuracy"], s=area, color=CYCLE[0], zorder=3)
        ax.set_title(label(model))
        ax.set_xlim(-0.03, 1.03)
        ax.set_ylim(-0.03, 1.03)
        ax.set_xticks([0, 0.5, 1])
        ax.set_yticks([0, 0.5, 1])
        percent_axis(ax.xaxis)
        percent_axis(ax.yaxis)
        bare(ax, "left bottom")
    for ax in list(axes.flat)[len(models) :]:
        ax.set_visible(False)
    figure.supxlabel("confidence", size=9, color=MUTED)
    figure.supylabel("accuracy", size=9, color=MUTED)
    return Drawing(
        "calibration",
        "Is a model as often right as it is confident?",
        f"n = {count(len(results.scores[models[0]]))} each, 95% intervals",
        f"{BINS} bins of confidence; a dot's area is its share of the rows, lines are Wilson "
        "intervals. Below the diagonal: overconfident.",
        data[["model", "bin", "n", "confidence", "accuracy", "low", "high"]],
        figure,
    )


def risk_coverage(results: Results) -> Drawing | None:
    """Error rate when only the most confident share of the questions is answered."""
    models = confident(results)
    if not models:
        return None
    table = []
    for model in models:
        scores = results.scores[model].dropna(subset=["confidence"])
        order = scores.sort_values("confidence", ascending=False, kind="stable")
        wrong = 1 - order["accuracy"].astype(float).to_numpy()
        risk = np.cumsum(wrong) / np.arange(1, len(wrong) + 1)
        # Rows with equal confidence can't be told apart: a threshold keeps all or none of them.
        level = order["confidence"].to_numpy()
        last = np.flatnonzero(np.append(level[1:] != level[:-1], True))
        share = (last + 1) / len(results.scores[model])
        keep = np.unique(np.searchsorted(share, np.linspace(0.02, share[-1], 50)))
        kept = last[np.clip(keep, 0, len(last) - 1)]
        for index in np.unique(kept):
            n = int(index) + 1
            table.append({"model": model, "coverage": n / len(results.scores[model]),
                          "risk": risk[index], "n": n})  # fmt: skip
    data = pd.DataFrame(table)
    figure, axes = canvas(3.3)
    ax = axes[0][0]
    for i, model in enumerate(models):
        part = data[data["model"] == model]
        ax.plot(part["coverage"], part["risk"], color=CYCLE[i], lw=1.8, label=label(model),
                marker=MARKERS[i], markevery=(3 + i, 12), markersize=5)  # fmt: skip
    ax.set_xlim(0, 1.01)
    ax.set_ylim(0, None)
    percent_axis(ax.xaxis)
    percent_axis(ax.yaxis)
    ax.set_xlabel("questions answered, most confident first")
    ax.set_ylabel("wrong among them")
    ax.grid()
    bare(ax, "bottom")
    ax.legend(loc="best", ncols=2)
    return Drawing(
        "risk-coverage",
        "What abstaining buys",
        f"n = {count(len(results.scores[models[0]]))} each",
        "Share of wrong answers when a model answers only its most confident questions. A useful "
        "confidence falls steeply to the left.",
        data,
        figure,
    )
