"""A sample of a model's answers, as a table that people read in MLflow's browser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from abo_vqa.data.normalise import same_answer

if TYPE_CHECKING:
    import pandas as pd

_ROWS = 200


def answer_sample(
    rows: pd.DataFrame, predictions: pd.DataFrame, limit: int = _ROWS
) -> dict[str, list[Any]]:
    """Return the first of a model's answers, beside the questions and the expected answers.

    Args:
        rows: image_path, question and, where they are known, answer; by position, or by row_id.
        predictions: row_id, prediction, confidence and error.
        limit: how many.

    Returns:
        Values by column.
    """
    head = predictions.head(limit)
    by_id = rows.set_index("row_id") if "row_id" in rows else rows
    # Numbers as a model's output has them, texts as a table is read.
    asked = by_id.set_axis(by_id.index.astype(str)).loc[head["row_id"].astype(str).tolist()]
    columns = {name: asked[name].tolist() for name in ("image_path", "question")}
    texts = head["prediction"].tolist()
    if "answer" in asked:
        columns["answer"] = asked["answer"].tolist()
        columns["correct"] = [
            same_answer(text, answer) for text, answer in zip(texts, columns["answer"], strict=True)
        ]
    return columns | {"prediction": texts, "error": head["error"].tolist()}
