"""Where the data come from: the funnel, the product types before and after balancing."""

from __future__ import annotations

import pandas as pd

from abo_vqa.reporting.formatting import count
from abo_vqa.reporting.inputs import Results
from abo_vqa.reporting.style import (
    BLUE,
    INK,
    ORANGE,
    SKY,
    Drawing,
    hide_spines,
    horizontal_axis_labels,
    new_figure,
)

_FUNNEL_STEPS = {
    "images": "images in the archive",
    "with_metadata": "with metadata",
    "clean": "with all fields, clean",
    "balanced": "balanced",
}
_MAX_TYPES = 24


def plot_funnel(results: Results) -> Drawing | None:
    """Draw how many images and questions are left from the archive to the test rows."""
    if results.external is not None:
        return None
    table = _funnel_table(results)
    figure, axes = new_figure(0.34 * len(table) + 0.5)
    ax = axes[0][0]
    colors = [BLUE if unit == "images" else ORANGE for unit in table["unit"]]
    ax.barh(range(len(table)), table["n"], color=colors, height=0.66)
    for y, n in enumerate(table["n"]):
        ax.annotate(count(n), (n, y), xytext=(4, 0), textcoords="offset points", va="center",
                    color=INK)  # fmt: skip
    horizontal_axis_labels(ax, list(table["step"]))
    ax.set_xlim(0, table["n"].max() * 1.12)
    ax.set_xticks([])
    hide_spines(ax)
    return Drawing(
        "",
        "Blue: images; orange: questions. The table below gives each step's losses by reason.",
        table,
        figure,
    )


def _funnel_table(results: Results) -> pd.DataFrame:
    """Return the steps from all images to the test questions: step, unit, n."""
    sides = {"train": results.train, "test": results.test}
    rows: list[tuple[str, str, int]] = [
        (text, "images", results.funnel[key])
        for key, text in _FUNNEL_STEPS.items()
        if key in results.funnel
    ]
    rows += [
        (f"{name} images", "images", part["image_path"].nunique()) for name, part in sides.items()
    ]
    rows += [(f"{name} questions", "questions", len(part)) for name, part in sides.items()]
    return pd.DataFrame(rows, columns=["step", "unit", "n"])


def plot_product_types(results: Results) -> Drawing | None:
    """Draw the rows per product type before and after balancing."""
    if results.types.empty:
        return None
    table = results.types.sort_values(
        ["clean", "product_type"], ascending=[False, True], kind="stable"
    )
    largest = table.head(_MAX_TYPES)
    figure, axes = new_figure(0.2 * len(largest) + 0.8)
    ax = axes[0][0]
    positions = range(len(largest))
    ax.barh(positions, largest["clean"], color=SKY, height=0.74, label="before", alpha=0.55)
    ax.barh(positions, largest["balanced"], color=BLUE, height=0.4, label="after")
    labels = [name.replace("_", " ") for name in largest["product_type"]]
    horizontal_axis_labels(ax, labels, size=8)
    ax.set_xlabel("rows (one per image)")
    ax.grid(axis="x")
    hide_spines(ax)
    ax.legend(loc="lower right")
    rest = (
        f", the {len(largest)} largest of {count(len(table))}" if len(table) > len(largest) else ""
    )
    return Drawing(
        f"n = {count(table['clean'].sum())} before, {count(table['balanced'].sum())} after",
        f"Rows per product type{rest}; at most {count(results.config.curate.cap)} per type are "
        "kept.",
        table,
        figure,
    )
