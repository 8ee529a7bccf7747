"""What verifiers are asked: the table's questions, and those of pairs that people rejected."""

from __future__ import annotations

import pandas as pd

QUESTION = ["image_path", "question"]
"""The columns that say what is asked."""


def asked_rows(table: pd.DataFrame, reviewed: pd.DataFrame) -> pd.DataFrame:
    """Append the reviewed questions that the table no longer has.

    Whether a filter would have kept them says how many of the pairs that it keeps are wrong (see
    `reviewed`).

    Args:
        table: the generated table.
        reviewed: columns image_path and question.

    Returns:
        The table's rows, then the others with a blank answer: the blind predictor learns nothing
        from these. Their other columns are those of the image's first row, or "".
    """
    if reviewed.empty:
        return table
    known = pd.MultiIndex.from_frame(table[QUESTION])
    gone = reviewed[~pd.MultiIndex.from_frame(reviewed[QUESTION]).isin(known)][QUESTION]
    images = table.drop(columns=["question", "answer"]).drop_duplicates("image_path")
    rows = gone.drop_duplicates().merge(images, on="image_path", how="left")
    return pd.concat([table, rows.assign(answer="").fillna("")], ignore_index=True)[list(table)]
