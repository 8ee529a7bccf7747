"""Where the data comes from: the funnel, the product types before and after balancing."""

from __future__ import annotations

import pandas as pd

from abo_vqa.reporting.inputs import Results
from abo_vqa.reporting.style import BLUE, INK, ORANGE, SKY, Drawing, bare, canvas
from abo_vqa.reporting.words import count

STEPS = (
    ("images", "images in the archive"),
    ("with_metadata", "with metadata"),
    ("clean", "with all fields, clean"),
    ("balanced", "balanced"),
)
_TOP_TYPES = 24


def steps(results: Results) -> pd.DataFrame:
    """The way from all images to test questions: step, unit, n."""
    table = [
        {"step": text, "unit": "images", "n": results.funnel[key]}
        for key, text in STEPS
        if key in results.funnel
    ]
    for name, part in (("train", results.train), ("test", results.test)):
        table.append({"step": f"{name} pictures", "unit": "images",
                      "n": part["image_path"].nunique()})  # fmt: skip
    for name, part in (("train", results.train), ("test", results.test)):
        table.append({"step": f"{name} questions", "unit": "questions", "n": len(part)})
    return pd.DataFrame(table)


def funnel(results: Results) -> Drawing:
    """From the archive to the test rows."""
    table = steps(results)
    figure, axes = canvas(0.34 * len(table) + 0.5)
    ax = axes[0][0]
    colors = [BLUE if unit == "images" else ORANGE for unit in table["unit"]]
    ax.barh(range(len(table)), table["n"], color=colors, height=0.66)
    for y, n in enumerate(table["n"]):
        ax.annotate(count(n), (n, y), xytext=(4, 0), textcoords="offset points", va="center",
                    color=INK)  # fmt: skip
    ax.set_yticks(range(len(table)), table["step"])
    ax.set_ylim(len(table) - 0.4, -0.6)
    ax.set_xlim(0, table["n"].max() * 1.12)
    ax.set_xticks([])
    bare(ax)
    return Drawing(
        "data-funnel",
        "From the archive to the test questions",
        "",
        "Blue: images; orange: questions. Each step's losses are counted by reason in the table.",
        table,
        figure,
    )


def product_types(results: Results) -> Drawing | None:
    """Rows a product type before and after balancing."""
    table = results.types.sort_values(
        ["clean", "product_type"], ascending=[False, True], kind="stable"
    )
    if table.empty:
        return None
    shown = table.head(_TOP_TYPES)
    figure, axes = canvas(0.2 * len(shown) + 0.8)
    ax = axes[0][0]
    positions = range(len(shown))
    ax.barh(positions, shown["clean"], color=SKY, height=0.74, label="before", alpha=0.55)
    ax.barh(positions, shown["balanced"], color=BLUE, height=0.4, label="after")
    ax.set_yticks(positions, [name.replace("_", " ") for name in shown["product_type"]], size=8)
    ax.set_ylim(len(shown) - 0.4, -0.6)
    ax.set_xlabel("rows (one a picture)")
    ax.grid(axis="x")
    bare(ax)
    ax.legend(loc="lower right")
    rest = f", the {len(shown)} largest of {count(len(table))}" if len(table) > len(shown) else ""
    return Drawing(
        "product-types",
        "Product types before and after balancing",
        f"n = {count(table['clean'].sum())} before, {count(table['balanced'].sum())} after",
        f"Rows a product type{rest}; at most {count(results.config.curate.cap)} a type are kept.",
        table,
        figure,
    )
