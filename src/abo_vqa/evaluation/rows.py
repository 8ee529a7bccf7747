"""The test rows, with the columns that slices are formed by."""

from __future__ import annotations

from collections import Counter

import pandas as pd

from abo_vqa.data import questions
from abo_vqa.data.normalise import normalise


def describe_rows(test: pd.DataFrame, train: pd.DataFrame | None) -> pd.DataFrame:
    """Add to the test rows what slices need: types, product, overlap with train.

    Args:
        test: row_id, image_path, question, answer and, if known, product_type.
        train: question, answer; None if there is no train split.

    Returns:
        One row per test row, with the columns of `slices.SLICE_COLUMNS`; without a train split,
        none of those that compare with it.
    """
    rows = test[["row_id", "image_path", "question", "answer"]].reset_index(drop=True)
    rows["row_id"] = rows["row_id"].astype(int)
    rows["question_type"] = [questions.question_type(q) for q in rows["question"]]
    rows["question_subtype"] = [questions.question_subtype(q) for q in rows["question"]]
    answers = [normalise(answer) for answer in rows["answer"]]
    rows["answer_type"] = [questions.answer_type(answer) for answer in answers]
    rows["answer_words"] = [str(len(answer.split())) for answer in answers]
    if train is not None:
        train_counts = Counter(normalise(answer) for answer in train["answer"])
        rows["answer_frequency"] = [_frequency_bin(train_counts[answer]) for answer in answers]
    rows["image_rows"] = rows.groupby("image_path")["row_id"].transform("size")
    rows["product_type"] = test["product_type"].to_numpy() if "product_type" in test else ""
    return rows if train is None else _add_overlap(rows, answers, train)


def _add_overlap(rows: pd.DataFrame, answers: list[str], train: pd.DataFrame) -> pd.DataFrame:
    """The rows with whether train has the question, and the question with the same answer."""
    train_questions = {question.lower() for question in train["question"]}
    rows["seen_question"] = [q.lower() in train_questions for q in rows["question"]]
    train_pairs = {
        (q.lower(), normalise(a)) for q, a in zip(train["question"], train["answer"], strict=True)
    }
    rows["seen_pair"] = [
        (q.lower(), a) in train_pairs for q, a in zip(rows["question"], answers, strict=True)
    ]
    return rows


def _frequency_bin(n: int) -> str:
    """The power of ten that a count is in: "0", "1-9", "10-99" and so on."""
    if n == 0:
        return "0"
    power = len(str(n)) - 1
    return f"{10**power}-{10 ** (power + 1) - 1}"
