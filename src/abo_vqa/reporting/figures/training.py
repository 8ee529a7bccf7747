"""How training went: loss a step, validation accuracy an epoch."""

from __future__ import annotations

import pandas as pd

from abo_vqa.reporting.inputs import Results
from abo_vqa.reporting.style import BLUE, SKY, VERMILION, Drawing, bare, canvas, percent_axis
from abo_vqa.reporting.words import count


def learning_curve(results: Results) -> Drawing | None:
    """Training loss and validation accuracy."""
    steps = pd.DataFrame(results.training.get("steps", []))
    epochs = pd.DataFrame(results.training.get("epochs", []))
    if epochs.empty:
        return None
    figure, axes = canvas(2.7, 2)
    left, right = axes[0]
    if not steps.empty:
        smooth = steps["loss"].rolling(max(1, len(steps) // 40), min_periods=1).mean()
        left.plot(steps["step"], steps["loss"], color=SKY, lw=0.8, alpha=0.6, label="a step")
        left.plot(steps["step"], smooth, color=BLUE, lw=1.8, label="moving mean")
        left.set_xlabel("optimiser step")
        left.legend(loc="upper right")
    else:
        left.plot(epochs["epoch"], epochs["loss"], color=BLUE, marker="o")
        left.set_xlabel("epoch")
    left.set_ylim(0, None)
    left.set_title("Training loss, nats a token")
    if "accuracy" in epochs:
        right.plot(epochs["epoch"], epochs["accuracy"], color=VERMILION, marker="o", ms=4)
        best = epochs.iloc[[int(epochs["accuracy"].astype(float).to_numpy().argmax())]]
        right.plot(best["epoch"], best["accuracy"], "o", ms=10, mfc="none", mec=VERMILION)
        right.set_title("Validation accuracy")
        right.set_xlabel("epoch (circle: kept)")
        percent_axis(right.yaxis)
    for ax in (left, right):
        ax.grid(axis="y")
        bare(ax, "bottom")
    return Drawing(
        "learning-curve",
        "The learning curve",
        f"{count(len(results.train))} train rows, validation included",
        "A share of train is kept for validation, grouped like the split; the epoch with the "
        "best validation accuracy is used.",
        pd.concat([steps.assign(level="step"), epochs.assign(level="epoch")], ignore_index=True),
        figure,
    )
