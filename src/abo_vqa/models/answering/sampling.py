"""The rows that baselines answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def sample_rows(table: pd.DataFrame, seed: int, fraction: float) -> pd.DataFrame:
    """Take rows in a random order of which any smaller fraction is a prefix.

    Args:
        table: columns image_path and question.
        seed: of the order.
        fraction: how many of the rows to take.

    Returns:
        Columns row_id (0-based position in `table`), image_path, question.
    """
    rows = table[["image_path", "question"]].copy()
    rows.insert(0, "row_id", range(len(rows)))
    shuffled = rows.sample(frac=1, random_state=seed)
    return shuffled.head(int(len(rows) * fraction)).reset_index(drop=True)
