from __future__ import annotations

import pytest

from abo_vqa.annotate.quality_filter import QualityFilter
from abo_vqa.data.pairs import REASONS, Pair, pair_key

MUG = {
    "image_path": "00/0000.jpg",
    "name": "rivington red mug",
    "product_type": "mug",
    "color": "red",
    "material": "ceramic",
    "brand": "Rivington",
}
FILTER = QualityFilter(3)


@pytest.mark.parametrize(
    ("question", "answer", "reason"),
    [
        ("What color is the mug?", "red", ""),
        ("What color is the mug?", "Red.", ""),
        ("How many mugs are there?", "2", ""),
        ("Is the mug red?", "yes", ""),
        ("What is on the mug?", "t-shirt", ""),  # one word once normalised
        ("What pattern is on the mug?", "None", ""),  # an answer
        ("What color is the mug", "red", "no_question_mark"),
        ("What color is the mug?", "dark red", "multi_word"),
        ("What color is the mug?", " ", "no_answer"),
        ("What color is the mug?", "", "no_answer"),
        ("  ", "red", "no_question"),
        ("What color is the mug?", "the", "multi_word"),  # an article is no word
        ("What color is the mug?", "An", "multi_word"),
        ("Which plug does the mug's warmer have?", "A", ""),
        ("Which energy class is shown?", "A++", ""),
        ("Which symbol is on the mug?", "+", ""),
        ("Which symbol is on the mug?", "&", ""),
        ("What color is the mug?", "...", "unknown"),
        ("What color is the mug?", "?", "unknown"),
        ("What color is the mug?", "unknown", "unknown"),
        ("What color is the mug?", "N/A", "unknown"),
        ("What is the red mug's color, red?", "red", "in_question"),
        ("Is the mug red or blue?", "red", ""),  # asked like yes/no: the word has to be there
        ("¿De qué color es la taza?", "rojo", "language"),
        ("Welche Farbe hat die Tasse?", "rot", "language"),
        ("What color is the mug?", "weiß", "language"),
        ("Color is?", "red", "length"),
        ("What " + "very " * 30 + "long question is this?", "red", "length"),
        ("What color is the mug?", "r" * 30, "length"),
        ("What brand is the mug?", "acme", "brand_or_text"),
        ("What does the text say?", "hello", "brand_or_text"),
        ("Who made this mug?", "Rivington", "brand_or_text"),
        ("Is this a Rivington mug?", "yes", "brand_or_text"),
    ],
)
def test_reject_reasons(question: str, answer: str, reason: str) -> None:
    assert FILTER.reject_reason(Pair(question, answer), MUG) == reason
    assert not reason or reason in REASONS


def test_brands_may_be_allowed() -> None:
    quality_filter = QualityFilter(3, allow_brands=True)
    assert quality_filter.reject_reason(Pair("What brand is the mug?", "Rivington"), MUG) == ""


def test_a_brand_that_is_a_color_too() -> None:
    amber = MUG | {"brand": "Amber", "color": "amber"}
    assert FILTER.reject_reason(Pair("What color is the mug?", "amber"), amber) == ""


def test_exactly_n_distinct_pairs() -> None:
    offered = [
        Pair("What color is the mug?", "red"),
        Pair("what color is a mug?", "blue"),  # the same question, normalised
        Pair("How many mugs are there?", "one"),
        Pair("Is the mug striped?", "no"),
        Pair("What shape is the mug?", "round"),
    ]
    accepted, rejects = FILTER.filter_pairs(offered, MUG)
    assert [(p.answer, p.kind) for p in accepted] == [
        ("red", "color"), ("one", "counting"), ("no", "yes/no"),
    ]  # fmt: skip
    assert [r.reason for r in rejects] == ["duplicate", "surplus"]


def test_pairs_the_image_has_already_count() -> None:
    taken = [Pair("What color is the mug?", "red"), Pair("How many mugs are there?", "one")]
    again = [taken[0], Pair("Is the mug striped?", "no"), Pair("What shape is the mug?", "round")]
    accepted, rejects = FILTER.filter_pairs(again, MUG, taken)
    assert [p.answer for p in accepted] == ["no"]
    assert [r.reason for r in rejects] == ["duplicate", "surplus"]


def test_what_people_reject() -> None:
    quality_filter = QualityFilter(
        1, rejected=frozenset({pair_key("00/0000.jpg", "Is the mug red?", "yes")})
    )
    offered = [Pair("Is the mug red?", "yes"), Pair("Is the mug blue?", "no")]
    accepted, rejects = quality_filter.filter_pairs(offered, MUG)
    assert [p.answer for p in accepted] == ["no"]
    assert [r.reason for r in rejects] == ["review"]
    assert (
        quality_filter.filter_pairs(offered, MUG | {"image_path": "00/0001.jpg"})[0][0].answer
        == "yes"
    )
