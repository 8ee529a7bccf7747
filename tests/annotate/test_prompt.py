from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abo_vqa.annotate.prompt import instruction, user_text, yes_no_hint
from abo_vqa.annotate.replies import parse_pairs
from abo_vqa.core.errors import UserError
from abo_vqa.data.pairs import Pair, reply_schema

ONE = '{"question": "What color is it?", "answer": "Red."}'
PAIR = Pair("What color is it?", "red")


@pytest.mark.parametrize(
    "text",
    [
        f"[{ONE}]",
        ONE,
        f'{{"pairs": [{ONE}]}}',
        f"Sure!\n[{ONE}]\nThat's all.",
        f"```json\n[{ONE}]\n```",
        f'[{ONE}, {{"question": "How many',  # broken off
        f'{{"pairs": [{ONE}, {{"question"',
        f'[{ONE}, {{"question": 3, "answer": "x"}}, "noise", null]',
        '[{"question": "What color is it?", "answer": "Red.",},]',
        '[{"question": "What color is it?",, "answer": "Red." ,\n},,]',
        'Here: ```[{"question": "What color is it?", "answer": "Red.",}, {"question": "How',
        '[{"Question": "What color\nis it?", " answer ": "Red."}]',
        json.dumps(f"[{ONE}]"),
        f'{{"result": {{"pairs": [{ONE}]}}}}',
        f'{{"first": {ONE}}}',
        f"{ONE}\n",
    ],
)
def test_reading_a_reply(text: str) -> None:
    assert parse_pairs(text) == [PAIR]


@pytest.mark.parametrize("text", ["", "no", "[]", "null", "3", '{"a": {"b": []}}', "{{{{"])
def test_reply_without_pairs(text: str) -> None:
    assert parse_pairs(text) == []


@pytest.mark.parametrize(
    ("number", "answer"),
    [
        ("2", "2"),
        ("3.0", "3"),
        ("2.5", "2.5"),
        ("2.50", "2.5"),
        ("-0.0", "0"),
        ("-0.5", "-0.5"),
        ("1234567", "1234567"),
        ("2500000", "2500000"),
        ("2500000.0", "2500000"),
        ("1234567.25", "1234567.25"),
        ("1e7", "10000000"),
        ("1e23", "1" + 23 * "0"),
        ("2.5e-7", "0.00000025"),
        ("1" + 400 * "0", "1" + 400 * "0"),
    ],
)
def test_numbers_are_answers(number: str, answer: str) -> None:
    text = f'[{{"question": "How many mugs?", "answer": {number}}}]'
    assert parse_pairs(text) == [Pair("How many mugs?", answer)]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400"])
def test_what_is_no_number_is_no_answer(number: str) -> None:
    text = f'[{{"question": "How many mugs?", "answer": {number}}}, {ONE}]'
    assert parse_pairs(text) == [PAIR]


def test_commas_in_strings_stay() -> None:
    text = '[{"question": "Is it red, ] or \\",} blue?", "answer": "red",}]'
    assert parse_pairs(text) == [Pair('Is it red, ] or ",} blue?', "red")]


def test_truth_values_are_answers() -> None:
    text = '[{"question": "Is it red?", "answer": true}, {"question": "Dry?", "answer": false}]'
    assert [pair.answer for pair in parse_pairs(text)] == ["yes", "no"]


def test_deep_nesting_is_no_answer() -> None:
    assert parse_pairs("[" * 100_000) == []
    assert parse_pairs('{"a":' * 5_000) == []


@given(st.text())
def test_no_text_crashes_the_parser(text: str) -> None:
    parse_pairs(text)
    parse_pairs("[{" + text)


@given(st.text())
def test_a_listing_stays_one_json_line(text: str) -> None:
    product = {"name": text, "product_type": text, "color": text, "keywords": text}
    lines = user_text(product, 3, total=3).split("\n")
    assert len(lines) == 2
    assert len(lines[1].splitlines()) == 1
    assert set(json.loads(lines[1])) == set(product)


def test_more_pairs_are_asked_for_by_naming_the_old() -> None:
    lines = user_text({"name": "mug"}, 2, [PAIR], "no", 3).splitlines()
    assert lines[2].startswith("Write exactly 2 more")
    assert json.loads(lines[3]) == ["What color is it?"]
    assert lines[4].endswith('whose answer is "no".')


def test_prompt_file(tmp_path: Path) -> None:
    path = tmp_path / "prompt.txt"
    path.write_text("Write $questions for 5 $$. $brands")
    assert instruction(path, 4, False).startswith("Write 4 for 5 $. - Don't ask about brands")
    path.write_text("Write some.")
    with pytest.raises(UserError, match=r"doesn't contain \$questions"):
        instruction(path, 4, False)
    path.write_text("Write ${questions}.\nAsk for $colour, not for $5.00.")
    with pytest.raises(UserError) as refused:
        instruction(path, 4, False)
    assert str(refused.value) == (
        f"{path}, line 2, column 9: '$colour' is no placeholder; there are $questions and $brands, "
        "and $$ for a dollar sign."
    )
    path.write_text("Write $questions for $5.00 each.")
    with pytest.raises(UserError, match=r"line 1, column 22: '\$5\.00' is no placeholder"):
        instruction(path, 4, False)


def test_wanted_yes_share() -> None:
    hints = [yes_no_hint(f"{i}.jpg", 42, 0.3) for i in range(2000)]
    assert 0.26 < hints.count("yes") / 2000 < 0.34
    assert yes_no_hint("a.jpg", 42, None) == ""
    assert {yes_no_hint(f"{i}.jpg", 1, 1.0) for i in range(50)} == {"yes"}


def test_schema_cannot_be_spoilt() -> None:
    """google-genai adds to the dict it gets; the journal's identity must not notice."""
    before = reply_schema()
    before["items"]["propertyOrdering"] = []
    assert "propertyOrdering" not in reply_schema()["items"]
