"""The test rows, with the columns that slices are formed by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from abo_vqa.data import questions
from abo_vqa.data.normalise import normalise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    _Texts = pd.Series | NDArray[np.object_]


def describe_rows(test: pd.DataFrame, train: pd.DataFrame | None) -> pd.DataFrame:
    """Add to the test rows what slices need: types, product, overlap with train.

    Args:
        test: row_id, image_path, question, answer and, if known, product_type.
        train: question, answer; None if there is no train split.

    Returns:
        One row per test row, with the columns of `slices.SLICE_COLUMNS`; without a train split,
        none of those that compare with it.
    """
    names = ["row_id", "image_path", "question", "answer"]
    # A text is one object, however many rows and tables of scores it is in.
    rows = pd.DataFrame({name: _shared_texts(test[name]) for name in names}, dtype=object)
    rows["row_id"] = rows["row_id"].astype(int)
    rows["question_type"] = _of_distinct(rows["question"], questions.question_type)
    rows["question_subtype"] = _of_distinct(rows["question"], questions.question_subtype)
    answers = _of_distinct(rows["answer"], normalise)
    rows["answer_type"] = _of_distinct(answers, questions.answer_type)
    rows["answer_words"] = _of_distinct(answers, lambda answer: str(len(answer.split())))
    if train is not None:
        train_counts = _count(_of_distinct(train["answer"], normalise))
        rows["answer_frequency"] = _of_distinct(
            answers, lambda answer: _frequency_bin(train_counts[answer])
        )
    rows["image_rows"] = rows.groupby("image_path")["row_id"].transform("size")
    rows["product_type"] = test["product_type"].to_numpy() if "product_type" in test else ""
    return rows if train is None else _add_overlap(rows, answers, train)


def _shared_texts(column: pd.Series) -> NDArray[np.object_]:
    """[n] the texts as objects, equal ones as one."""
    codes, distinct = pd.factorize(column)
    return np.asarray(distinct, dtype=object)[codes]


def _of_distinct(column: _Texts, function: Callable[[str], str]) -> NDArray[np.object_]:
    """[n] a function of each text, called once for each distinct one."""
    codes, distinct = pd.factorize(column)
    values = np.empty(len(distinct), dtype=object)
    values[:] = [function(text) for text in distinct]
    return values[codes]


def _count(texts: NDArray[np.object_]) -> Counter[str]:
    codes, distinct = pd.factorize(texts)
    return Counter(dict(zip(distinct, np.bincount(codes).tolist(), strict=True)))


def _add_overlap(
    rows: pd.DataFrame, answers: NDArray[np.object_], train: pd.DataFrame
) -> pd.DataFrame:
    """The rows with whether train has the question, and the question with the same answer."""
    # Only what the test rows ask and answer is looked for: train may be many times as large.
    asked = _of_distinct(rows["question"], str.lower)
    question_codes, questions_asked = pd.factorize(asked)
    answer_codes, answers_given = pd.factorize(answers)
    train_questions = _positions(_of_distinct(train["question"], str.lower), questions_asked)
    train_answers = _positions(_of_distinct(train["answer"], normalise), answers_given)
    rows["seen_question"] = np.isin(question_codes, train_questions)
    both = (train_questions >= 0) & (train_answers >= 0)
    width = len(answers_given)
    rows["seen_pair"] = np.isin(
        question_codes * width + answer_codes, train_questions[both] * width + train_answers[both]
    )
    return rows


def _positions(column: NDArray[np.object_], distinct: NDArray[np.object_]) -> NDArray[np.int64]:
    """[n] each text's position among distinct ones, -1 for none."""
    return np.asarray(pd.Index(distinct).get_indexer(pd.Index(column)), dtype=np.int64)


def _frequency_bin(n: int) -> str:
    """The power of ten that a count is in: "0", "1-9", "10-99" and so on."""
    if n == 0:
        return "0"
    power = len(str(n)) - 1
    return f"{10**power}-{10 ** (power + 1) - 1}"
