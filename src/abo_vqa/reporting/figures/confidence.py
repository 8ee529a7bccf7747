"""Whether a model knows when it is wrong: calibration, risk against coverage."""

from __future__ import annotations

import pandas as pd

from abo_vqa.reporting.formatting import count, model_kind, model_label
from abo_vqa.reporting.inputs import Results
from abo_vqa.reporting.style import (
    COLOR_CYCLE,
    MARKERS,
    MUTED,
    RULE,
    Drawing,
    hide_spines,
    hide_unused,
    new_figure,
    percent_axis,
)

_MAX_MODELS = 6
_MIN_COVERAGE = 0.05  # an error rate over fewer rows is too uncertain


def _models_with_confidence(results: Results) -> list[str]:
    """Return the best models that see the image and give a confidence, best first."""
    known = results.evaluation.get("calibration", {})
    models = [m for m in results.ranking if m in known and model_kind(m) != "blind"]
    return models[:_MAX_MODELS]


def _sample_size(results: Results, models: list[str]) -> str:
    """Return how many rows have a confidence: `399`, or `388 to 399` if models differ."""
    sizes = {results.evaluation["calibration"][model]["n"] for model in models}
    low, high = count(min(sizes)), count(max(sizes))
    return low if low == high else f"{low} to {high}"


def plot_calibration(results: Results) -> Drawing | None:
    """Draw the accuracy within bins of confidence; the diagonal is perfect calibration."""
    models = _models_with_confidence(results)
    if not models:
        return None
    data = _bins(results, models)
    columns = min(3, len(models))
    rows = -(-len(models) // columns)
    figure, axes = new_figure(2.35 * rows, columns, rows, sharex=True, sharey=True)
    for ax, model in zip(axes.flat, models, strict=False):
        part = data[data["model"] == model]
        ax.plot([0, 1], [0, 1], color=RULE, lw=1.2)
        ax.vlines(
            part["confidence"], part["low"], part["high"], color=COLOR_CYCLE[0], lw=1.4, alpha=0.6
        )
        area = 8 + 90 * part["n"] / part["n"].sum()
        ax.scatter(part["confidence"], part["accuracy"], s=area, color=COLOR_CYCLE[0], zorder=3)
        ax.set_title(model_label(model))
        ax.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
        percent_axis(ax.xaxis)
        percent_axis(ax.yaxis)
        hide_spines(ax, "left bottom")
    hide_unused(axes, len(models))
    figure.supxlabel("confidence", size=9, color=MUTED)
    figure.supylabel("accuracy", size=9, color=MUTED)
    return Drawing(
        f"n = {_sample_size(results, models)}, {results.level} intervals",
        "Ten bins of confidence; a dot's area is its share of the rows, lines are Wilson "
        "intervals. Below the diagonal: overconfident.",
        data,
        figure,
    )


def _bins(results: Results, models: list[str]) -> pd.DataFrame:
    """Return a tidy table of the bins: model, n, confidence, accuracy, low, high."""
    rows = []
    for model in models:
        for part in results.evaluation["calibration"][model]["bins"]:
            means = {key: part[key] for key in ("n", "confidence", "accuracy")}
            bounds = {"low": part["accuracy_low"], "high": part["accuracy_high"]}
            rows.append({"model": model, **means, **bounds})
    return pd.DataFrame(rows)


def plot_risk_coverage(results: Results) -> Drawing | None:
    """Draw the error rate when only the most confident share of the questions is answered."""
    models = _models_with_confidence(results)
    if not models:
        return None
    data = _curves(results, models)
    figure, axes = new_figure(3.4)
    ax = axes[0][0]
    for i, model in enumerate(models):
        part = data[data["model"] == model]
        ax.plot(part["coverage"], part["risk"], color=COLOR_CYCLE[i], lw=1.8,
                label=model_label(model), marker=MARKERS[i], markevery=(3 + i, 12),
                markersize=5)  # fmt: skip
        if i == 0:  # six bands would hide each other; the table has them all
            ax.fill_between(part["coverage"], part["low"], part["high"], color=COLOR_CYCLE[i],
                            alpha=0.15, lw=0)  # fmt: skip
    ax.set_xlim(0, 1.01)
    ax.set_ylim(0, None)
    percent_axis(ax.xaxis)
    percent_axis(ax.yaxis)
    ax.set_xlabel("coverage: share of questions answered, most confident first")
    ax.set_ylabel("risk: share of these that are wrong")
    ax.grid()
    hide_spines(ax, "bottom")
    figure.legend(loc="outside lower center", ncols=len(models))
    return Drawing(
        f"n = {_sample_size(results, models)}, {results.level} interval of "
        f"{model_label(models[0])}",
        "Share of wrong answers if a model answers only its most confident questions, from 5% "
        "coverage on; the band is the Wilson interval. With a useful confidence, the curve falls "
        "steeply to the left.",
        data,
        figure,
    )


def _curves(results: Results, models: list[str]) -> pd.DataFrame:
    """Return a tidy table of the curves: model, coverage, risk, n, low, high."""
    return pd.DataFrame(
        {"model": model, **point}
        for model in models
        for point in results.evaluation["calibration"][model]["risk_coverage"]
        if point["coverage"] >= _MIN_COVERAGE
    )
