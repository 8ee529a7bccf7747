"""Variants of a product: other colours, and other marketplaces where it has another item id.

Neither names nor images tell by themselves: "phone case" is the name of thousands of products, and
two white mugs look the same. So images belong together if the product's type and name are the same,
the colour left out, and the images differ at most twice as much as near-duplicates may. Of the
sample's drawings 9 in 10 differ from the same in another colour by at most 8 of a perceptual hash's
64 bits, and one or two in 100 from another product of its type (docs/benchmarks.md).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.sparse.csgraph import connected_components

from abo_vqa.core.errors import UserError
from abo_vqa.core.tables import STUDY_COLUMNS, read_table

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from abo_vqa.data.similarity_rule import SimilarityRule

NAME_COLUMNS = ("name", "color")
"""What a table of questions lacks of a product, and a balanced table has."""

_WORD = re.compile(r"\w+")


def name_without_color(name: str, color: str) -> str:
    """Return a product's name in lower case, without its colour and without punctuation.

    Args:
        name: the name.
        color: its colour in the seller's words; "" if unknown.
    """
    colors = set(_WORD.findall(color.lower()))
    return " ".join(word for word in _WORD.findall(name.lower()) if word not in colors)


def variant_codes(table: pd.DataFrame, rule: SimilarityRule) -> NDArray[np.int64]:
    """Number the variants of each product.

    Args:
        table: with the columns image_path, phash and name; color and product_type are used.
        rule: which images are near-duplicates.

    Returns:
        [n] the same number for variants of a product, -1 for an image without others.
    """
    unknown = pd.Series("", index=table.index)
    names = [
        name_without_color(*pair)
        for pair in zip(table["name"], table.get("color", unknown), strict=True)
    ]
    types = table.get("product_type", unknown)
    rows = pd.DataFrame({"name": names, "type": types.to_numpy(), "image": table["image_path"]})
    rows = rows.set_index(np.arange(len(rows)))
    rows = rows[rows["name"] != ""]
    several = rows.groupby(["type", "name"])["image"].transform("nunique") > 1
    looser = rule.loosened()
    codes = np.full(len(table), -1, dtype=np.int64)
    for _, same in rows[several].groupby(["type", "name"], sort=True):
        positions = same.index.to_numpy()
        graph = looser.graph(table.iloc[positions])
        parts = connected_components(graph.adjacency, directed=False)[1]
        known = graph.nodes >= 0
        codes[positions[known]] = codes.max(initial=-1) + 1 + parts[graph.nodes[known]]
    return codes


def add_names(table: pd.DataFrame, balanced: Path) -> pd.DataFrame:
    """Add the columns that groups by variant need.

    Args:
        table: a table of questions.
        balanced: a balanced table, with the same image paths.

    Returns:
        The table with `NAME_COLUMNS`; "" for images that the balanced table doesn't have.

    Raises:
        UserError: the balanced table lacks a column, or has none of the images.
    """
    known = read_table(balanced, ("image_path", *NAME_COLUMNS), STUDY_COLUMNS)
    known = known.drop_duplicates("image_path").set_index("image_path")
    added = known.reindex(table["image_path"])[list(NAME_COLUMNS)]
    if added["name"].isna().all():
        raise UserError(
            f"{balanced} has none of the images, so their names are unknown: groups by variant "
            "need them. Use another split.group."
        )
    return table.assign(**{name: added[name].fillna("").to_numpy() for name in NAME_COLUMNS})
