"""How training went: loss per step, validation accuracy per epoch."""

from __future__ import annotations

import pandas as pd

from abo_vqa.reporting.formatting import count
from abo_vqa.reporting.inputs import Results
from abo_vqa.reporting.style import (
    BLUE,
    SKY,
    VERMILION,
    Drawing,
    hide_spines,
    new_figure,
    percent_axis,
)

_WINDOWS = 40  # the moving average is over 1/40 of all steps


def plot_training_loss(results: Results) -> Drawing | None:
    """Draw the training loss, step by step."""
    steps = pd.DataFrame(results.training.get("steps", []))
    if steps.empty:
        return None
    window = max(1, len(steps) // _WINDOWS)
    steps["moving_mean"] = steps["loss"].rolling(window, min_periods=1).mean()
    figure, axes = new_figure(2.6)
    ax = axes[0][0]
    ax.plot(steps["step"], steps["loss"], color=SKY, lw=0.8, alpha=0.6, label="per step")
    ax.plot(
        steps["step"], steps["moving_mean"], color=BLUE, lw=1.8, label=f"mean of {window} steps"
    )
    ax.set_ylim(0, None)
    ax.set_xlabel("optimiser step")
    ax.set_ylabel("nats per token")
    ax.grid(axis="y")
    figure.legend(loc="outside lower center", ncols=2)
    hide_spines(ax, "bottom")
    return Drawing(
        f"{count(len(steps))} steps",
        "Cross-entropy of the answer's tokens, without padding.",
        steps,
        figure,
    )


def plot_learning_curve(results: Results) -> Drawing | None:
    """Draw the validation accuracy, epoch by epoch, and which epoch was selected."""
    epochs = pd.DataFrame(results.training.get("epochs", []))
    if epochs.empty:
        return None
    held_out = results.training.get("held_out_rows")
    figure, axes = new_figure(2.3)
    ax = axes[0][0]
    if bounds := results.evaluation["learning_curve"]:
        epochs["low"], epochs["high"] = zip(*bounds, strict=True)
        ax.vlines(epochs["epoch"], epochs["low"], epochs["high"], color=VERMILION, lw=1.6,
                  alpha=0.45)  # fmt: skip
    ax.plot(epochs["epoch"], epochs["validation_accuracy"], color=VERMILION, marker="o", ms=4)
    best = epochs[epochs["epoch"] == results.training.get("best_epoch")]
    ax.plot(best["epoch"], best["validation_accuracy"], "o", ms=11, mfc="none", mec=VERMILION)
    ax.set_xlabel("epoch")
    ax.set_ylabel("validation accuracy")
    ax.locator_params(axis="x", integer=True)
    ax.locator_params(axis="y", nbins=5, steps=[1, 2, 5, 10])  # integer percentages
    percent_axis(ax.yaxis)
    ax.grid(axis="y")
    hide_spines(ax, "bottom")
    if held_out:
        note = f"n = {count(held_out)} held-out train rows, {results.level} intervals"
        rows = "rows held out of train, grouped like the split"
    else:
        note, rows = "", "the training rows (lora.validation: 0)"
    return Drawing(
        note,
        f"Exact match on {rows}. Lines: Wilson intervals, which treat rows as independent. Circle: "
        "the epoch that is selected and tested.",
        epochs,
        figure,
    )
