"""The distinct (prediction, reference) pairs of tables of rows, found by numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Integers = NDArray[np.int64]


@dataclass(frozen=True)
class DistinctPairs:
    """Pairs of texts, and which of them each row has.

    Attributes:
        pairs: distinct (prediction, reference), sorted.
        positions: of each table, [n] the positions of its rows' pairs; -1 for a row that failed.
    """

    pairs: list[tuple[str, str]]
    positions: list[Integers]


def distinct_pairs(tables: Sequence[pd.DataFrame]) -> DistinctPairs:
    """Find the distinct pairs of the rows that didn't fail.

    Args:
        tables: rows with prediction, answer and error.
    """
    columns = [(pd.factorize(t["prediction"]), pd.factorize(t["answer"])) for t in tables]
    # A text's number is its place in the order of all texts: pairs of numbers sort as the texts do.
    texts = sorted({text for both in columns for _, distinct in both for text in distinct})
    numbers = {text: number for number, text in enumerate(texts)}
    codes = []
    for table, both in zip(tables, columns, strict=True):
        prediction, answer = (_numbered(factorized, numbers) for factorized in both)
        failed = (table["error"] != "").to_numpy(dtype=np.bool_)
        codes.append(np.where(failed, -1, prediction * len(texts) + answer))
    distinct = np.unique(np.concatenate([np.empty(0, dtype=np.int64), *codes]))
    distinct = distinct[distinct >= 0]
    pairs = [(texts[code // len(texts)], texts[code % len(texts)]) for code in distinct.tolist()]
    positions = [np.where(c < 0, -1, np.searchsorted(distinct, c)) for c in codes]
    return DistinctPairs(pairs, positions)


def _numbered(factorized: tuple[Integers, pd.Index], numbers: dict[str, int]) -> Integers:
    """[n] the numbers of the texts in a column that `pd.factorize` has taken apart."""
    codes, distinct = factorized
    return np.array([numbers[text] for text in distinct], dtype=np.int64)[codes]
