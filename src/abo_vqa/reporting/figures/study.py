"""This run beside the study: its comparison of models, and CLIP's lists of candidates."""

from __future__ import annotations

import pandas as pd
from matplotlib.patches import Patch

from abo_vqa.core.paths import FINETUNED_MODEL
from abo_vqa.reporting import study
from abo_vqa.reporting.figures.common import NO_INTERVAL, mark_ceiling
from abo_vqa.reporting.formatting import count, metric_label, model_label
from abo_vqa.reporting.inputs import Results
from abo_vqa.reporting.style import (
    BLUE,
    INK,
    ORANGE,
    VERMILION,
    Drawing,
    hide_spines,
    horizontal_axis_labels,
    new_figure,
    percent_axis,
)

_CLIP_COLORS = {"clip-fixed": ORANGE, "clip-train": BLUE, "clip-all": VERMILION}


def plot_study(results: Results) -> Drawing | None:
    """Draw the study's printed numbers and this run's side by side."""
    if not results.beside_study:
        return None
    table = study.accuracies_side_by_side(results)
    scores = study.finetuned_side_by_side(results)
    figure, axes = new_figure(3.6, 2, width_ratios=[1.15, 1])
    for ax, part, labels in (
        (axes[0][0], table, [_study_label(str(m)) for m in table["model"]]),
        (axes[0][1], scores, [metric_label(str(m)) for m in scores["metric"]]),
    ):
        positions = range(len(part))
        ax.barh([y - 0.2 for y in positions], part["study"], height=0.36, color=ORANGE)
        ax.barh([y + 0.2 for y in positions], part["value"], height=0.36, color=BLUE)
        known = part["low"].notna()
        ys = [y + 0.2 for y in positions if known.iloc[y]]
        ax.hlines(ys, part["low"][known], part["high"][known], color=INK, lw=1.2)
        horizontal_axis_labels(ax, labels)
        ax.set_xlim(0, 1)
        ax.grid(axis="x")
        hide_spines(ax)
    percent_axis(axes[0][0].xaxis)
    axes[0][0].set_title("Accuracy")
    limit = mark_ceiling([axes[0][0]], results.ceiling)
    axes[0][1].set_title("Fine-tuned BLIP, other metrics")
    handles = [Patch(color=ORANGE, label="study"), Patch(color=BLUE, label="this run")]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    both = pd.concat(
        [table.assign(metric="accuracy"), scores.assign(model=FINETUNED_MODEL)], ignore_index=True
    )
    return Drawing(
        f"this run: n = {count(results.test_rows)}, {results.level} intervals{limit}",
        "Orange: as printed in the study, each model at its largest sample. Blue: this run, every "
        "model on the same test rows. Absolute values are comparable only if both used the same "
        "data.",
        both[["model", "metric", "study", "value", "low", "high"]],
        figure,
    )


def _study_label(model: str) -> str:
    """Return the name of one of the study's models, whose fine-tuned one is BLIP."""
    return "BLIP + LoRA" if model == FINETUNED_MODEL else model_label(model)


def plot_clip_regimes(results: Results) -> Drawing | None:
    """Draw CLIP's accuracy by question type, for each list of candidates."""
    models = [model for model in _CLIP_COLORS if model in results.metrics]
    if not models or results.external is not None:
        return None
    data = pd.DataFrame(
        {"model": model, **part} for model in models for part in _overall_and_types(results, model)
    )
    groups = list(dict.fromkeys(data["value"]))
    figure, axes = new_figure(2.9)
    ax = axes[0][0]
    for i, model in enumerate(models):
        part = data[data["model"] == model].set_index("value").reindex(groups)
        xs = [x + (i - (len(models) - 1) / 2) * 0.26 for x in range(len(groups))]
        ax.bar(
            xs, part["accuracy"], width=0.24, color=_CLIP_COLORS[model], label=model_label(model)
        )
        ax.vlines(xs, part["low"], part["high"], color=INK, lw=1.2)
    sizes = data.drop_duplicates("value").set_index("value")["n"]
    ax.set_xticks(range(len(groups)), [f"{g}\nn = {count(sizes[g])}" for g in groups])
    ax.grid(axis="y")
    percent_axis(ax.yaxis)
    ax.set_ylabel("accuracy")
    limit = mark_ceiling([ax], results.ceiling, across=True)
    ax.legend(loc="best")
    hide_spines(ax, "bottom")
    return Drawing(
        f"{results.level} intervals{limit}",
        "Fixed: a list of common words. Train: the answers that occur in train. All: every answer "
        "of the data set, including those of the test rows, as in the study.",
        data[["model", "value", "n", "accuracy", "low", "high"]],
        figure,
    )


def _overall_and_types(results: Results, model: str) -> list[dict[str, object]]:
    """Return a model's accuracy over all test rows, then by question type."""
    low, high = results.interval(model) or NO_INTERVAL
    metrics = results.metrics[model]
    overall = {"value": "all", "n": metrics["n"], "accuracy": metrics["accuracy"]}
    return [{**overall, "low": low, "high": high}, *results.slices(model, "question_type")]
