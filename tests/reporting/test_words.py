"""Numbers as people read them."""

import math

import pytest

from abo_vqa.evaluation.slices import SLICES
from abo_vqa.reporting.words import (
    count,
    listing,
    number,
    p_value,
    part,
    percent,
    plain,
    points,
    span,
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
        (number(-4.5013, 4), "−4.5013"),
        (count(398212), "398,212"),
        (span((0.661, 0.681)), "66.1 to 68.1"),
        (span((-0.011, 0.098), signed=True), "−1.1 to +9.8"),
        (p_value(0.00001), "< 0.001"),
        (p_value(0.0412), "0.041"),
        (plain(True), "yes"),
        (plain(3.0), "3"),
        (plain(0.25), "25.0%"),
        (plain(25.212), "25.212"),
    ],
)
def test_shown(shown, expected):
    assert shown == expected


@pytest.mark.parametrize("shown", [percent, points, number, count, p_value])
def test_what_is_missing_is_a_dash(shown):
    assert shown(None) == "–"
    assert shown(NAN) == "–"
    assert span(None) == "–"
    assert span((NAN, NAN)) == "–"


def test_listing():
    assert listing(["a"]) == "a"
    assert listing(["a", "b"]) == "a and b"
    assert listing(["a", "b", "c"]) == "a, b and c"


def test_every_slice_has_words_of_its_own():
    named = {name: part(name, "two_words") for name in SLICES}
    assert not any(name.replace("_", " ") in words for name, words in named.items())
    assert len(set(named.values())) == len(SLICES) - 1  # types and subtypes are both questions
    assert part("answer_frequency", "1-9") == "answers that train has 1-9 times"
    assert part("seen_question", "False") == "new questions"
