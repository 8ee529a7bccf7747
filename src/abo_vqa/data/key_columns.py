"""Columns by which a table's rows are compared, as numbers: millions of rows fit into memory.

A text that stands in many rows is kept once, and rows are compared by its number, a pandas
category. Categories are in no particular order.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from abo_vqa.data.image_paths import unify_image_paths

if TYPE_CHECKING:
    from numpy.typing import NDArray

KEY_COLUMNS = ("image_path", "item_id", "image_sha1", "phash", "product_type", "name", "color")
"""The columns that decide on a split, as far as a table has them."""

# A path in ABO's own layout is its image's key already, and no part of another one.
_UNIFIED = re.compile(r"[0-9a-z_+-]+/[0-9a-z_+-]+\.[a-z]{3,4}")


def compact_table(tables: Sequence[pd.DataFrame], columns: Iterable[str]) -> pd.DataFrame:
    """Put tables one below the other, as categories.

    Args:
        tables: at least one.
        columns: those to keep, which all tables have.
    """
    return pd.DataFrame({name: _as_category([table[name] for table in tables]) for name in columns})


def _as_category(parts: Sequence[pd.Series]) -> pd.Series:
    """Columns one below the other, as a category without values that no row has."""
    column = parts[0] if len(parts) == 1 else pd.concat(parts, ignore_index=True)
    numbers, texts = numbered_texts(column)
    return pd.Series(pd.Categorical.from_codes(numbers, pd.Index(texts, dtype=object)))


def numbered_texts(column: pd.Series) -> tuple[NDArray[np.int64], NDArray[np.object_]]:
    """Number the distinct texts of a column by their first appearance.

    Args:
        column: [n] texts, of any of pandas' types for them.

    Returns:
        [n] the number of each row's text, and [k] the texts.
    """
    numbers, texts = pd.factorize(column)
    return numbers.astype(np.int64), np.asarray(texts, dtype=object)


def sorted_numbers(column: pd.Series) -> NDArray[np.int64]:
    """Number the distinct texts of a column in their own order.

    Args:
        column: [n] texts.

    Returns:
        [n] the number of each row's text.
    """
    numbers, texts = numbered_texts(column)
    rank = np.empty(len(texts), dtype=np.int64)
    rank[np.argsort(texts, kind="stable")] = np.arange(len(texts))
    ranks: NDArray[np.int64] = rank[numbers]
    return ranks


def run_starts(*columns: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Find the rows that differ from the one before: questions about an image follow each other.

    Args:
        columns: [n] numbers; at least one.

    Returns:
        [n] True for the first of each run of equal rows.
    """
    starts = np.zeros(len(columns[0]), dtype=np.bool_)
    starts[:1] = True
    for column in columns:
        starts[1:] |= column[1:] != column[:-1]
    return starts


def unify_paths(column: pd.Series) -> pd.Series:
    """Give each image of a column one name; see `image_paths.unify_image_paths`.

    Args:
        column: [n] paths.

    Returns:
        [n] names, as a category.
    """
    if isinstance(column.dtype, pd.CategoricalDtype) and all(
        map(_UNIFIED.fullmatch, column.cat.categories)
    ):
        return column  # a category of a million names takes a second to make
    numbers, texts = numbered_texts(column)
    if not all(map(_UNIFIED.fullmatch, texts)):
        names = np.array(unify_image_paths(texts)[0], dtype=object)
        places, texts = pd.factorize(names)
        numbers = places[numbers]
    unified = pd.Categorical.from_codes(numbers, pd.Index(texts, dtype=object))
    return pd.Series(unified, index=column.index)
