"""Error analysis: yes and no, shares of counting errors, F1 by answer length."""

import numpy as np
import pandas as pd
import pytest

from abo_vqa.core.config import load_config
from abo_vqa.core.proportions import wilson_interval
from abo_vqa.evaluation.error_analysis import (
    counting_errors,
    f1_by_answer_length,
    yes_no_recall,
)
from abo_vqa.evaluation.study_fractions import study_fractions
from tests.support import ROOT


def test_counting_errors_are_shares_of_the_questions_with_a_number():
    scores = pd.DataFrame(
        {"question_type": ["counting"] * 5 + ["color"],
         "answer": ["2", "two", "1", "9", "many", "red"],
         "prediction": ["2", "three", "red", "1", "2", "red"], "error": ""}
    )  # fmt: skip
    table = pd.DataFrame(counting_errors(scores)["errors"])
    assert table["n"].tolist() == [1, 1, 1, 1]  # "many" is no number to compare with
    assert table["error"].tolist()[:3] == [-4, 0, 1]
    assert np.isnan(table["error"].iloc[3])
    assert table["share"].sum() == pytest.approx(1)
    assert (table["low"] < table["share"]).all()
    assert (table["share"] < table["high"]).all()


def test_f1_by_answer_length_has_a_row_per_length_that_occurs():
    scores = pd.DataFrame(
        {
            "image_path": ["a", "a", "b"],
            "answer": ["red", "yes", "aluminium"],
            "f1": [1.0, 0.0, 1.0],
        }
    )
    clusters = np.array([0, 0, 1])
    table = pd.DataFrame(f1_by_answer_length({"blip": scores}, clusters, load_config())["blip"])
    assert table[["characters", "n", "f1"]].to_numpy().tolist() == [
        ["1–3", 2, 0.5],
        ["8–9", 1, 1.0],
    ]
    assert table[["low", "high"]].to_numpy().tolist() == [[0.5, 0.5], [1.0, 1.0]]
    nothing = scores.assign(f1=np.nan)
    assert f1_by_answer_length({"blip": nothing}, clusters, load_config()) == {"blip": []}


def test_yes_no_counting_and_fractions_by_hand():
    table = pd.DataFrame(
        {"question_type": ["yes/no", "yes/no", "counting", "counting"],
         "answer": ["Yes", "no", "two", "3"], "prediction": ["yes", "Yes", "4", "three"],
         "error": "", "accuracy": [1.0, 0, 0, 1]}
    )  # fmt: skip
    found = yes_no_recall(table)
    assert (found["yes_recall"], found["no_recall"], found["yes_share"]) == (1, 0, 1)
    counted = counting_errors(table)
    assert (counted["exact"], counted["mean_absolute_error"]) == (0.5, 1)
    right, off_by_two = counted["errors"]
    assert (right["error"], right["n"], right["share"]) == (0, 1, 0.5)
    assert (right["low"], right["high"]) == wilson_interval(1, 2)
    assert (off_by_two["error"], off_by_two["n"]) == (2, 1)
    half = study_fractions(table, 4, ())[-2]
    assert (half["fraction"], half["n"]) == (0.5, 2)
    assert (half["accuracy"], half["accuracy_lower_case_only"]) == (0.5, 0.5)


def test_counts_that_are_far_off_or_no_numbers():
    table = pd.DataFrame({"question_type": "counting", "answer": ["1", "2", "3", "many"],
                          "prediction": ["100", "none", "", "2"],
                          "error": ["", "", "failed", ""]})  # fmt: skip
    counted = counting_errors(table)
    assert (counted["n"], counted["not_a_number"]) == (3, 2)
    # The last row's reference is no number, so it has no error; a failed row is a wrong one.
    assert [(e["error"], e["n"]) for e in counted["errors"]] == [(4, 1), (None, 2)]


def test_f1_by_answer_length_leaves_out_lengths_without_scores():
    config = load_config(ROOT / "params.yaml")
    few = config.evaluate.model_copy(update={"resamples": 100})
    config = config.model_copy(update={"evaluate": few})
    table = pd.DataFrame({"answer": ["red", "yes", "white", "turquoise"],
                          "f1": [1.0, 0.0, 1.0, np.nan]})  # fmt: skip
    short, middle = f1_by_answer_length({"a": table}, np.arange(4), config)["a"]
    assert (short["characters"], short["n"], short["f1"]) == ("1–3", 2, 0.5)
    assert (short["low"], short["high"]) == (0, 1)
    assert (middle["characters"], middle["n"], middle["f1"]) == ("4–5", 1, 1)
