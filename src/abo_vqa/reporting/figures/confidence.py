"""Whether a model knows when it is wrong: calibration, risk against coverage."""

from __future__ import annotations

import pandas as pd

from abo_vqa.reporting.inputs import Results
from abo_vqa.reporting.intervals import wilson
from abo_vqa.reporting.style import CYCLE, MARKERS, MUTED, RULE, Drawing, bare, canvas, percent_axis
from abo_vqa.reporting.words import count, kind, label

_SHOWN = 6
_LEAST = 0.05  # a rate over fewer rows says nothing


def _confident(results: Results) -> list[str]:
    """Models that see the picture and give a confidence, best first."""
    known = results.evaluation.get("calibration", {})
    return [m for m in results.ranking if m in known and kind(m) != "blind"][:_SHOWN]


def answered(results: Results, models: list[str]) -> str:
    """How many rows have a confidence: `399`, or `388 to 399` where models differ."""
    sizes = {results.evaluation["calibration"][model]["n"] for model in models}
    low, high = count(min(sizes)), count(max(sizes))
    return low if low == high else f"{low} to {high}"


def calibration(results: Results) -> Drawing | None:
    """Accuracy within bins of confidence; the diagonal is perfect calibration."""
    models = _confident(results)
    if not models:
        return None
    table = []
    for model in models:
        for part in results.evaluation["calibration"][model]["bins"]:
            low, high = wilson(part["accuracy"] * part["n"], part["n"])
            seen = {key: part[key] for key in ("n", "confidence", "accuracy")}
            table.append({"model": model, **seen, "low": low, "high": high})
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
        f"n = {answered(results, models)}, 95% intervals",
        "Bins of confidence, a tenth each; a dot's area is its share of the rows, lines are Wilson "
        "intervals. Below the diagonal: overconfident.",
        data,
        figure,
    )


def risk_coverage(results: Results) -> Drawing | None:
    """Error rate when only the most confident share of the questions is answered."""
    models = _confident(results)
    if not models:
        return None
    data = pd.DataFrame(
        {"model": model, **point}
        for model in models
        for point in results.evaluation["calibration"][model]["risk_coverage"]
        if point["coverage"] >= _LEAST
    )
    sizes = data["model"].map(lambda m: results.evaluation["calibration"][m]["n"])
    answered_rows = (data["coverage"] * sizes).round()
    bounds = [wilson(r * n, n) for r, n in zip(data["risk"], answered_rows, strict=True)]
    data["n"], data["low"], data["high"] = answered_rows.astype(int), *zip(*bounds, strict=True)
    figure, axes = canvas(3.4)
    ax = axes[0][0]
    for i, model in enumerate(models):
        part = data[data["model"] == model]
        ax.plot(part["coverage"], part["risk"], color=CYCLE[i], lw=1.8, label=label(model),
                marker=MARKERS[i], markevery=(3 + i, 12), markersize=5)  # fmt: skip
        if i == 0:  # six bands would hide each other; the table has them all
            ax.fill_between(part["coverage"], part["low"], part["high"], color=CYCLE[i],
                            alpha=0.15, lw=0)  # fmt: skip
    ax.set_xlim(0, 1.01)
    ax.set_ylim(0, None)
    percent_axis(ax.xaxis)
    percent_axis(ax.yaxis)
    ax.set_xlabel("questions answered, most confident first")
    ax.set_ylabel("wrong among them")
    ax.grid()
    bare(ax, "bottom")
    figure.legend(loc="outside lower center", ncols=len(models))
    return Drawing(
        "risk-coverage",
        "What abstaining buys",
        f"n = {answered(results, models)}, 95% interval of {label(models[0])}",
        "Share of wrong answers when a model answers only its most confident questions, from 5% of "
        "them on; the band is Wilson's interval. With a useful confidence the curve falls steeply "
        "to the left.",
        data,
        figure,
    )
