"""The test rows with what slices need."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pandas as pd

from abo_vqa.core.tables import read_table
from abo_vqa.data import questions
from abo_vqa.data.normalise import normalise

if TYPE_CHECKING:
    pass
from abo_vqa.core.paths import TEST


def describe_rows(test: pd.DataFrame, train: pd.DataFrame) -> pd.DataFrame:
    """The test rows with what slices need: types, product, what train has seen and how often."""
    rows = test[["row_id", "image_path", "question", "answer"]].reset_index(drop=True)
    rows["row_id"] = rows["row_id"].astype(int)
    rows["question_type"] = [questions.question_type(q) for q in rows["question"]]
    rows["question_subtype"] = [questions.question_subtype(q) for q in rows["question"]]
    answers = [normalise(answer) for answer in rows["answer"]]
    rows["answer_type"] = [questions.answer_type(answer) for answer in answers]
    rows["answer_words"] = [str(len(answer.split())) for answer in answers]
    known = Counter(normalise(answer) for answer in train["answer"])
    rows["answer_frequency"] = [_frequency(known[answer]) for answer in answers]
    rows["image_rows"] = rows.groupby("image_path")["row_id"].transform("size")
    rows["product_type"] = test["product_type"].to_numpy() if "product_type" in test else ""
    asked = {question.lower() for question in train["question"]}
    rows["seen_question"] = [q.lower() in asked for q in rows["question"]]
    pairs = {
        (q.lower(), normalise(a)) for q, a in zip(train["question"], train["answer"], strict=True)
    }
    rows["seen_pair"] = [
        (q.lower(), a) in pairs for q, a in zip(rows["question"], answers, strict=True)
    ]
    return rows


def _frequency(n: int) -> str:
    """How often train has an answer, in powers of ten: "0", "1-9", "10-99", …"""
    if n == 0:
        return "0"
    power = len(str(n)) - 1
    return f"{10**power}-{10 ** (power + 1) - 1}"


def read_test() -> pd.DataFrame:
    """The rows that every model is measured on."""
    return read_table(TEST, ("row_id", "image_path", "question", "answer"))
