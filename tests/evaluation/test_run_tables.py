"""The tables and the sentence that MLflow's browser shows, by hand."""

import json

import pandas as pd
import pytest

from abo_vqa.data.answer_sample import answer_sample
from abo_vqa.evaluation.results import Evaluation
from abo_vqa.evaluation.run_tables import describe_result, result_tables

QUESTIONS = ["What color?", "How many?", "Is it red?", "What shape?"]
ANSWERS = ["gray", "two", "yes", "round"]


def scored(*predictions, errors=("",) * 4):
    right = [a == b and not e for a, b, e in zip(predictions, ANSWERS, errors, strict=True)]
    return pd.DataFrame(
        {
            "image_path": [f"00/{n}.jpg" for n in range(4)],
            "question": QUESTIONS,
            "answer": ANSWERS,
            "prediction": predictions,
            "error": errors,
            "accuracy": [float(r) for r in right],
        }
    )


@pytest.fixture
def evaluation():
    tables = {
        "blip": scored("gray", "one", "no", "square"),
        "clip-all": scored("red", "red", "red", "red"),
        "finetuned": scored("Black", "two", "yes", "", errors=("", "", "", "no image")),
        "blind-type": scored("gray", "two", "yes", "red"),
    }
    metrics = {
        name: {
            "accuracy": float(table["accuracy"].mean()),
            "gain_over_blind": float(table["accuracy"].mean()) - 0.75,
            "n": 4,
        }
        for name, table in tables.items()
    }
    metrics["blip"]["wup"] = 0.123456
    part = {"value": "color", "n": 1, "accuracy": 1 / 3, "low": 0.0, "high": 1.0}
    details = {"slices": {"blip": {"question_type": [part]}, "finetuned": {}}}
    return Evaluation(tables, "blind-type", metrics, details)


def test_tables_by_hand(evaluation):
    tables = result_tables(evaluation)
    json.dumps(tables, allow_nan=False)  # they may have to wait in a file
    assert tables["metrics_by_model"] == {
        "model": ["blind-type", "finetuned", "blip", "clip-all"],
        "accuracy": [0.75, 0.5, 0.25, 0.0],
        "gain_over_blind": [0.0, -0.25, -0.5, -0.75],
        "n": [4, 4, 4, 4],
        "wup": [None, None, 0.1235, None],
    }
    assert tables["accuracy_by_question_type"] == {
        "model": ["blip"], "question_type": ["color"], "rows": [1],
        "accuracy": [0.3333], "low": [0.0], "high": [1.0],
    }  # fmt: skip
    # a row that failed is no confusion
    assert tables["confusions"] == {"expected": ["gray"], "given": ["black"], "rows": [1]}
    changed = tables["changed_answers"]
    assert changed["question"] == QUESTIONS[:3]
    assert changed["zero_shot"] == ["gray", "one", "no"]
    assert changed["finetuned"] == ["Black", "two", "yes"]
    assert changed["change"] == ["now wrong", "now right", "now right"]


def test_the_sentence_names_the_model_its_gain_and_what_it_beats(evaluation):
    assert describe_result(evaluation.metrics) == (
        "finetuned: 50.0% of 4 test rows, -25.0 points over the best blind baseline; "
        "blip, the best zero-shot model: 25.0%"
    )


def test_answers_are_joined_by_row_and_cut():
    rows = scored(*ANSWERS)[["image_path", "question", "answer"]]
    predictions = pd.DataFrame(
        {
            "row_id": [3, 0, 1],
            "prediction": ["square", "Gray", "two"],
            "confidence": [0.5, 0.5, 0.5],
            "error": ["", "", ""],
        }
    )
    sample = answer_sample(rows, predictions, limit=2)
    assert sample == {
        "image_path": ["00/3.jpg", "00/0.jpg"],
        "question": ["What shape?", "What color?"],
        "answer": ["round", "gray"],
        "correct": [False, True],
        "prediction": ["square", "Gray"],
        "error": ["", ""],
    }
    by_id = rows.assign(row_id=["10", "11", "12", "13"])  # as read_table reads it
    shifted = predictions.assign(row_id=[13, 10, 11])
    assert answer_sample(by_id, shifted, limit=2) == sample
    unlabelled = answer_sample(rows[["image_path", "question"]], predictions)
    assert list(unlabelled) == ["image_path", "question", "prediction", "error"]
