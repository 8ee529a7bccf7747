"""Blind baselines: what they learn from, back off to, and how sure they are."""

import numpy as np
import pandas as pd
import pytest

from abo_vqa.core.errors import UserError
from abo_vqa.models.answering.blind import answer_blind_rows, cross_fit_blind
from abo_vqa.models.blind import baselines as blind
from abo_vqa.models.blind import ngrams

TRAIN = [
    ("What color is it?", "red"),
    ("What color is it?", "red"),
    ("What color is it?", "blue"),
    ("How many are there?", "two"),
    ("How many are there?", "two"),
    ("How many chairs are there?", "one"),
    ("Is it round?", "yes"),
    ("Is it round?", "yes"),
    ("Is it square?", "no"),
    ("What is it made of?", "wood"),
    ("What is it made of?", "wood"),
    ("What is it made of?", "steel"),
]
QUESTIONS, ANSWERS = map(list, zip(*TRAIN, strict=True))


def say(fit, asked: list[str]) -> list[tuple[str, float]]:
    return list(zip(*fit(QUESTIONS, ANSWERS)(asked), strict=True))


def test_majority_with_ties_in_alphabetical_order() -> None:
    # red, two, wood and yes occur twice each.
    assert say(blind.fit_majority, ["Is it?", "What?"]) == [("red", 2 / 12)] * 2


def test_majority_of_the_type() -> None:
    assert say(
        blind.fit_type_majority, ["How many legs?", "Is it red?", "Which color?", "Which fabric?"]
    ) == [
        ("two", 2 / 3),
        ("yes", 2 / 3),
        ("red", 2 / 3),
        ("wood", 2 / 3),
    ]


def test_same_question_then_its_type() -> None:
    asked = ["how many chairs are there? ", "How many tables are there?", "Is it square?"]
    assert [a for a, _ in say(blind.fit_question_lookup, asked)] == ["one", "two", "no"]


def test_ngrams_generalise_over_words() -> None:
    answers = say(blind.fit_ngrams, ["What color is the lamp?", "How many lamps are there?"])
    assert [a for a, _ in answers] == ["red", "two"]
    assert all(0 < p < 1 for _, p in answers)


def test_ngrams_without_enough_answers_fall_back() -> None:
    said, _ = blind.fit_ngrams(["a?", "a?"], ["x", "x"])(["a?", "b?"])
    assert said == ["x", "x"]


def test_ngrams_without_a_word_in_two_rows_fall_back() -> None:
    asked = ["a?", "b?", "a?", "b?"]  # a word has two letters
    known = (asked, ["x", "y", "x", "y"])
    assert blind.fit_ngrams(*known)(asked) == blind.fit_question_lookup(*known)(asked)


def test_equal_answers_are_one_class_and_blank_ones_none() -> None:
    asked = ["q?"] * 8
    answers = ["2", "Two", "two", "2.0", "A", "A++", " ", "red"]
    questions, spelt = blind.unify_spelling(asked, answers)
    assert spelt == ["two", "two", "two", "two", "a", "a++", "red"]
    assert len(questions) == 7
    assert say_all(blind.fit_majority, questions, spelt)[0][0] == "two"


def say_all(fit, questions, answers) -> list[tuple[str, float]]:
    return list(zip(*fit(questions, answers)(["q?"]), strict=True))


def test_a_fit_that_is_stopped_says_so_and_warns_nobody(monkeypatch, recwarn) -> None:
    assert blind.converged(blind.fit_ngrams(QUESTIONS, ANSWERS))
    assert blind.converged(blind.fit_question_lookup(QUESTIONS, ANSWERS))
    monkeypatch.setattr(ngrams, "STEPS", 1)
    stopped = blind.fit_ngrams(QUESTIONS, ANSWERS)
    assert not blind.converged(stopped)
    assert len(stopped(["What color is it?"])[0]) == 1
    assert not [w for w in recwarn if "onverge" in str(w.message)]


def test_ngrams_are_the_same_in_any_order_of_rows() -> None:
    one = blind.fit_ngrams(QUESTIONS, ANSWERS)(QUESTIONS)
    assert blind.fit_ngrams(QUESTIONS[::-1], ANSWERS[::-1])(QUESTIONS) == one


def test_a_fit_on_a_part_of_the_answers_is_reported(monkeypatch) -> None:
    train = pd.DataFrame({"question": QUESTIONS, "answer": ANSWERS})
    rows = pd.DataFrame({"row_id": [0], "question": ["What color is it?"]})
    assert not any(result.part for result in answer_blind_rows(rows, train).values())
    monkeypatch.setattr(ngrams, "QUESTION_CELLS", 1)
    monkeypatch.setattr(ngrams, "MINIBATCH_ANSWERS", 3)
    results = answer_blind_rows(rows, train)
    parts = {variant: result.part for variant, result in results.items() if result.part}
    assert parts == {"ngram": "3 of 4 answers (75.0% of the rows)"}
    together = pd.concat([train, train], ignore_index=True).assign(row_id=range(2 * len(train)))
    fitted = cross_fit_blind(together, np.arange(len(together)), 1)
    assert fitted["ngram"].part.startswith("3 of")
    assert fitted["question"].part == ""


def test_cross_fitting_never_sees_the_image_it_answers_about() -> None:
    """Each image's answer occurs with no other: whoever knew it would have seen its rows."""
    images = np.repeat(np.arange(12), 2)
    rows = pd.DataFrame(
        {"row_id": range(24), "question": ["What is it?", "Is it red?"] * 12,
         "answer": [f"secret {image}" for image in images]}
    )  # fmt: skip
    for variant, result in cross_fit_blind(rows, images, seed=1).items():
        assert result.predictions["row_id"].tolist() == rows["row_id"].tolist()
        hits = result.predictions["prediction"] == rows["answer"]
        assert not hits.any(), variant
        assert (result.predictions["prediction"] != "").all()


def test_cross_fitting_with_answers_about_few_images() -> None:
    """Every part of the others has an answer, although most images have none."""
    answers = ["red", "", "", "", "", "", "blue", ""]
    rows = pd.DataFrame({"row_id": range(8), "question": "What?", "answer": answers})
    for seed in range(20):
        fitted = cross_fit_blind(rows, np.arange(8), seed)["majority"].predictions["prediction"]
        assert fitted[0] == "blue"
        assert fitted[6] == "red"
    with pytest.raises(UserError, match="fewer than two images"):
        cross_fit_blind(rows, np.array([0, 1, 2, 3, 4, 5, 0, 6]), 1)


def test_each_distinct_question_is_asked_once(monkeypatch) -> None:
    from abo_vqa.models.answering import blind as answering

    batches = []

    def fit(_questions, _answers):
        def predict(asked):
            batches.append(list(asked))
            return [question.lower() for question in asked], [0.25] * len(asked)

        return predict

    monkeypatch.setitem(answering.VARIANTS, "majority", fit)
    rows = pd.DataFrame({"row_id": [3, 0, 2, 1], "question": ["B?", "A?", "B?", "B?"]})
    train = pd.DataFrame({"question": ["A?"], "answer": ["x"]})
    table = answering.answer_blind_rows(rows, train, ["majority"])["majority"].predictions
    assert batches == [["B?", "A?"]]
    assert table["row_id"].tolist() == [3, 0, 2, 1]
    assert table["prediction"].tolist() == ["b?", "a?", "b?", "b?"]
    assert set(table["confidence"]) == {"0.250000"}
