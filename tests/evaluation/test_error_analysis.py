"""The report's error analysis: shares with Wilson's intervals, F1 by answer length."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from abo_vqa.config import load_config
from abo_vqa.evaluation.error_analysis import counting_errors, f1_by_answer_length
from abo_vqa.evaluation.intervals import wilson_interval


@pytest.mark.parametrize(("right", "n"), [(0, 5), (5, 5), (7, 30), (311, 390)])
def test_wilson_is_scipys(right, n):
    expected = binomtest(right, n).proportion_ci(method="wilson")
    assert wilson_interval(right, n) == pytest.approx((expected.low, expected.high))


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
