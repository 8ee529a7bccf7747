"""A sample of a model's answers, as a table that people read in MLflow's browser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from abo_vqa.data.normalise import same_answer

if TYPE_CHECKING:
    import pandas as pd

SAMPLE_ROWS = 200


def answer_sample(
    rows: pd.DataFrame, predictions: pd.DataFrame, limit: int = SAMPLE_ROWS
) -> dict[str, list[Any]]:
    """Return the first of a model's answers, beside the questions and the expected answers.

    Args:
        rows: image_path, question and, where they are known, answer; by row_id, which is a column
            or else the index.
        predictions: row_id, prediction, confidence and error.
        limit: how many.

    Returns:
        Values by column.
    """
    head = predictions.head(limit)
    # Numbers as a model's output has them, texts as a table is read.
    ids = head["row_id"].astype(str).tolist()
    if "row_id" in rows:
        asked = rows[rows["row_id"].astype(str).isin(ids)]
        asked = asked.set_axis(asked["row_id"].astype(str)).loc[ids]
    else:
        asked = rows.loc[[int(row) for row in ids]]
    columns = {name: asked[name].tolist() for name in ("image_path", "question")}
    texts = head["prediction"].tolist()
    if "answer" in asked:
        columns["answer"] = asked["answer"].tolist()
        columns["correct"] = [
            same_answer(text, answer) for text, answer in zip(texts, columns["answer"], strict=True)
        ]
    return columns | {"prediction": texts, "error": head["error"].tolist()}
