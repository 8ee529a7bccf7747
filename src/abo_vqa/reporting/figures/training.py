"""How training went: loss a step, validation accuracy an epoch."""

from __future__ import annotations

import pandas as pd

from abo_vqa.reporting.inputs import Results
from abo_vqa.reporting.intervals import wilson
from abo_vqa.reporting.style import BLUE, SKY, VERMILION, Drawing, bare, canvas, percent_axis
from abo_vqa.reporting.words import count

_WINDOWS = 40  # the moving mean is over 1/40 of all steps


def loss(results: Results) -> Drawing | None:
    """Training loss, step by step."""
    steps = pd.DataFrame(results.training.get("steps", []))
    if steps.empty:
        return None
    window = max(1, len(steps) // _WINDOWS)
    steps["moving_mean"] = steps["loss"].rolling(window, min_periods=1).mean()
    figure, axes = canvas(2.6)
    ax = axes[0][0]
    ax.plot(steps["step"], steps["loss"], color=SKY, lw=0.8, alpha=0.6, label="a step")
    ax.plot(steps["step"], steps["moving_mean"], color=BLUE, lw=1.8, label=f"mean of {window}")
    ax.set_ylim(0, None)
    ax.set_xlabel("optimiser step")
    ax.set_ylabel("nats a token")
    ax.grid(axis="y")
    figure.legend(loc="outside lower center", ncols=2)
    bare(ax, "bottom")
    return Drawing(
        "training-loss",
        "Training loss",
        f"{count(len(steps))} steps",
        "Cross-entropy of the answer's tokens; padding doesn't count.",
        steps,
        figure,
    )


def learning_curve(results: Results) -> Drawing | None:
    """Validation accuracy, epoch by epoch; which epoch was kept."""
    epochs = pd.DataFrame(results.training.get("epochs", []))
    if epochs.empty:
        return None
    held_out = results.training.get("held_out_rows")
    if held_out:
        bounds = [wilson(share * held_out, held_out) for share in epochs["validation_accuracy"]]
        epochs["low"], epochs["high"] = zip(*bounds, strict=True)
    figure, axes = canvas(2.3)
    ax = axes[0][0]
    if held_out:
        ax.vlines(epochs["epoch"], epochs["low"], epochs["high"], color=VERMILION, lw=1.6,
                  alpha=0.45)  # fmt: skip
    ax.plot(epochs["epoch"], epochs["validation_accuracy"], color=VERMILION, marker="o", ms=4)
    kept = epochs[epochs["epoch"] == results.training.get("best_epoch")]
    ax.plot(kept["epoch"], kept["validation_accuracy"], "o", ms=11, mfc="none", mec=VERMILION)
    ax.set_xlabel("epoch")
    ax.set_ylabel("validation accuracy")
    ax.locator_params(axis="x", integer=True)
    ax.locator_params(axis="y", nbins=5, steps=[1, 2, 5, 10])  # whole per cents
    percent_axis(ax.yaxis)
    ax.grid(axis="y")
    bare(ax, "bottom")
    return Drawing(
        "learning-curve",
        "The learning curve",
        f"n = {count(held_out)} held-out train rows, 95% intervals" if held_out else "",
        "Exact match on rows held out of train, grouped like the split; lines are Wilson intervals "
        "that take rows as independent. The circled epoch is the one that is kept and tested.",
        epochs,
        figure,
    )
