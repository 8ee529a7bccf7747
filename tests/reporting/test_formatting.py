"""Numbers as people read them."""

import math

import pytest

from abo_vqa.evaluation.slices import SLICE_COLUMNS
from abo_vqa.reporting.formatting import (
    count,
    decimal,
    enumeration,
    format_value,
    interval_text,
    p_value,
    percent,
    points,
    slice_label,
)

NAN = math.nan


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (percent(0.670875), "67.1%"),
        (percent(0.5089, 2), "50.89%"),
        (points(0.2412), "+24.1"),
        (points(-0.0349), "−3.5"),
        (points(-0.0001), "0.0"),
        (decimal(-4.5013, 4), "−4.5013"),
        (count(398212), "398,212"),
        (interval_text((0.661, 0.681)), "66.1 to 68.1"),
        (interval_text((-0.011, 0.098), signed=True), "−1.1 to +9.8"),
        (p_value(0.00001), "< 0.001"),
        (p_value(0.0412), "0.041"),
        (format_value(True), "yes"),
        (format_value(3.0), "3"),
        (format_value(0.25), "25.0%"),
        (format_value(25.212), "25.212"),
    ],
)
def test_shown(shown, expected):
    assert shown == expected


@pytest.mark.parametrize("shown", [percent, points, decimal, count, p_value])
def test_what_is_missing_is_a_dash(shown):
    assert shown(None) == "–"
    assert shown(NAN) == "–"
    assert interval_text(None) == "–"
    assert interval_text((NAN, NAN)) == "–"


def test_listing():
    assert enumeration(["a"]) == "a"
    assert enumeration(["a", "b"]) == "a and b"
    assert enumeration(["a", "b", "c"]) == "a, b and c"


def test_every_slice_has_words_of_its_own():
    named = {name: slice_label(name, "two_words") for name in SLICE_COLUMNS}
    assert not any(name.replace("_", " ") in words for name, words in named.items())
    # Types and subtypes are both called questions.
    assert len(set(named.values())) == len(SLICE_COLUMNS) - 1
    assert slice_label("answer_frequency", "1-9") == "answers that occur 1-9 times in train"
    assert slice_label("seen_question", "False") == "new questions"
