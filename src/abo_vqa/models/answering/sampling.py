"""The rows that baselines answer."""

from __future__ import annotations

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
    # Positions alone are shuffled: the texts are copied once.
    order = pd.Series(range(len(table))).sample(frac=1, random_state=seed).to_numpy()
    chosen = order[: int(len(table) * fraction)]
    rows = table[["image_path", "question"]].take(chosen).reset_index(drop=True)
    rows.insert(0, "row_id", chosen)
    return rows
