"""The label-noise ceiling: how much can be right if people found a share of the answers wrong."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from abo_vqa.core.proportions import wilson_interval
from abo_vqa.evaluation.ceiling import label_noise_ceiling
from abo_vqa.evaluation.intervals import clustered_wilson_interval
from abo_vqa.reporting.ceiling import NOT_MEASURED, ceiling_note, ceiling_sentence


def reviews(*images: tuple[int, float, int]) -> dict[str, object]:
    """Reviewed images: pairs of each, wrong ones among them, how many such images."""
    kinds = [{"pairs": p, "wrong": w, "images": n} for p, w, n in images]
    pairs = sum(p * n for p, _, n in images)
    return {"pairs": pairs, "left_out": 0, "raters": 2, "images": kinds}


def test_a_share_of_wrong_answers_lowers_what_can_be_right() -> None:
    test = pd.DataFrame({"reviewed": ["keep", "corrected"] + [""] * 8})
    ceiling = label_noise_ceiling(reviews((3, 0, 32), (3, 1, 5), (3, 2, 3)), test, 0.95)
    wrong = ceiling["wrong"]
    assert wrong["share"] == pytest.approx(11 / 120)
    assert ceiling["accuracy"] == pytest.approx(1 - 0.8 * 11 / 120)  # two of ten rows are right
    assert ceiling["low"] == pytest.approx(1 - 0.8 * wrong["high"])
    assert ceiling["high"] == pytest.approx(1 - 0.8 * wrong["low"])
    assert (ceiling["pairs"], ceiling["images"], ceiling["reviewed_test_rows"]) == (120, 40, 2)
    sentence = ceiling_sentence(ceiling)
    assert sentence.startswith("At most about 92.7% can be right (95% interval ")
    assert "of 120 pairs that 2 people reviewed, 9.2% were wrong" in sentence
    assert ceiling_note(ceiling) == "at most about 93%"


def test_mistakes_among_suspicious_pairs_arent_in_the_other_rows() -> None:
    """Of 900 + 100 pairs a tenth is expected to be wrong; 60 of these are known."""
    test = pd.DataFrame({"reviewed": ["keep", "corrected"] + [""] * 8})
    sample = reviews((1, 0, 90), (1, 1, 10))
    plain = label_noise_ceiling(sample, test, 0.95)
    suspicious = {"pairs": 100, "left_out": 5, "wrong": 60, "unreviewed": 900}
    ceiling = label_noise_ceiling({**sample, "suspicious": suspicious}, test, 0.95)
    assert ceiling["wrong"] == plain["wrong"]
    expected = {
        end: max(0, (1000 * ceiling["wrong"][end] - 60) / 900) for end in ("share", "low", "high")
    }
    assert ceiling["remaining"] == pytest.approx(expected)
    assert ceiling["remaining"]["low"] == 0 < ceiling["remaining"]["share"]
    assert ceiling["accuracy"] == pytest.approx(1 - 0.8 * 40 / 900)
    assert ceiling["low"] == pytest.approx(1 - 0.8 * expected["high"])
    sentence = ceiling_sentence(ceiling)
    assert "of 100 pairs drawn at random that 2 people reviewed, 10.0% were wrong" in sentence
    assert sentence.endswith(
        "; so were 60 of 100 suspicious pairs, which leaves about 4.4% wrong answers in the rows "
        "that nobody reviewed."
    )
    everything = {"suspicious": {**suspicious, "unreviewed": 0}}
    assert label_noise_ceiling(sample | everything, test.head(2), 0.95)["low"] == 1
    assert "suspicious" not in plain
    assert "random" not in ceiling_sentence(plain)


def test_suspicious_pairs_alone_say_nothing_of_the_set() -> None:
    suspicious = {"pairs": 0, "left_out": 1200, "wrong": 0, "unreviewed": 9}
    only = {**reviews(), "suspicious": suspicious}
    assert label_noise_ceiling(only, pd.DataFrame({"answer": ["x"]}), 0.95) == {}
    sentence = ceiling_sentence(None, only)
    assert "people have reviewed 1,200 pairs, all of them because they are suspicious" in sentence
    assert "writes a page of random pairs" in sentence
    assert "keep none of the 3 pairs drawn at random" in ceiling_sentence(
        None, {**only, "left_out": 3}
    )


def test_without_reviews_nothing_is_claimed() -> None:
    test = pd.DataFrame({"answer": ["x"]})
    assert label_noise_ceiling({}, test, 0.95) == {}
    assert label_noise_ceiling(reviews(), test, 0.95) == {}  # none of them is about this table
    assert ceiling_sentence(None) == NOT_MEASURED


def test_none_wrong_isnt_certainty() -> None:
    test = pd.DataFrame({"answer": ["x"] * 9})
    ceiling = label_noise_ceiling(reviews((3, 0, 10)), test, 0.95)
    assert ceiling["accuracy"] == 1
    assert 1 - ceiling["low"] == pytest.approx(wilson_interval(0, 10)[1])  # ten images, not 30 rows
    one_image = label_noise_ceiling(reviews((3, 1, 1)), test, 0.95)
    assert (one_image["low"], one_image["high"]) == (0, 1)


def test_alike_rows_of_an_image_widen_the_interval() -> None:
    """Rows that repeat an image's value tell what its first one tells: Wilson with G trials."""
    once = np.array([1.0] * 3 + [0.0] * 27)
    low, high = wilson_interval(3, 30)
    same = clustered_wilson_interval(once, np.arange(30), 0.95)
    assert same == pytest.approx((low, high), abs=0.004)  # G / (G - 1) apart
    thrice = clustered_wilson_interval(np.repeat(once, 3), np.repeat(np.arange(30), 3), 0.95)
    assert thrice == pytest.approx(same)


def test_the_interval_covers_the_truth() -> None:
    """40 images with three pairs, whose answers are wrong together more often than by chance."""
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        share = rng.beta(0.5, 4.5, 40).repeat(3)  # 10% on average
        values = (rng.random(120) < share).astype(float)
        low, high = clustered_wilson_interval(values, np.arange(40).repeat(3), 0.95)
        inside += low <= 0.1 <= high
    assert inside / 400 > 0.92
