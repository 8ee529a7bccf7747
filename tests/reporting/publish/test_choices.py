from __future__ import annotations

import itertools
import random
import warnings
from collections import Counter
from pathlib import Path

import nltk
import numpy as np
import pytest

from abo_vqa.core.errors import UserError
from abo_vqa.data.normalise import normalise
from abo_vqa.reporting.publish.choices import DistractorSampler, blind_choice_accuracy
from abo_vqa.reporting.publish.subsets import (
    SubsetSampler,
    fit_weights,
    inclusion_probabilities,
    symmetric_polynomials,
)
from abo_vqa.reporting.publish.synonyms import Equivalence, synonym_test
from tests.support import ROOT

SHARES = np.array([0.24, 0.2, 0.16, 0.12, 0.1, 0.08, 0.06, 0.04])
COLORS = ("red", "blue", "green", "white", "black", "pink", "brown", "orange")


def different(one: str, other: str) -> bool:
    return one == other


def skewed(n: int) -> list[dict[str, str]]:
    """A color and a yes/no question an image; colors as frequent as SHARES."""
    dice = random.Random(0)
    rows = []
    for i in range(n):
        color = dice.choices(COLORS, SHARES)[0]
        for question, answer in (("What color is it?", color), ("Is it big?", "yes")):
            rows.append({"image_path": f"{i}.jpg", "question": question, "answer": answer})
    return rows


def test_symmetric_polynomials_against_all_subsets() -> None:
    weights = np.array([0.5, 1.0, 2.0, 3.5, 0.1])
    for k in range(1, 5):
        products = {s: np.prod(weights[list(s)]) for s in itertools.combinations(range(5), k)}
        total = sum(products.values())
        assert symmetric_polynomials(weights, k)[-1, k] == pytest.approx(total)
        expected = [sum(p for s, p in products.items() if i in s) / total for i in range(5)]
        assert inclusion_probabilities(weights, k) == pytest.approx(expected)


def test_drawn_sets_have_their_probability() -> None:
    weights, dice = np.array([0.5, 1.0, 2.0, 3.5, 0.1]), random.Random(1)
    sets = SubsetSampler(weights, 2)
    drawn = Counter(tuple(sets.draw(dice)) for _ in range(20_000))
    total = symmetric_polynomials(weights, 2)[-1, 2]
    for pair in itertools.combinations(range(5), 2):
        expected = weights[list(pair)].prod() / total
        assert drawn[pair] / 20_000 == pytest.approx(expected, abs=0.012)


def test_weights_give_the_wanted_inclusion() -> None:
    assert inclusion_probabilities(fit_weights(SHARES, 4), 4) == pytest.approx(4 * SHARES, abs=1e-4)
    one_rules = inclusion_probabilities(fit_weights(np.array([0.7, 0.1, 0.1, 0.05, 0.05]), 2), 2)
    assert one_rules[0] == pytest.approx(0.98, abs=0.01)  # as often as can be
    assert fit_weights(np.array([0.5, 0.5]), 4) == pytest.approx([1, 1])


def test_many_choices_are_drawn_as_exactly_as_few() -> None:
    shares = 1 / np.arange(1, 301)
    shares /= shares.sum()
    wanted = np.minimum(25 * shares, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = inclusion_probabilities(fit_weights(shares, 25), 25)
    assert found.sum() == pytest.approx(25)
    rare = slice(100, None)  # far from what has to be cut
    assert np.ptp(found[rare] / wanted[rare]) < 0.01


@pytest.mark.parametrize("question", ["What is the mat folded", "Which is it?", "Is it folded?"])
def test_yes_and_no_are_all_the_choices_whatever_was_asked(question: str) -> None:
    rows = [
        {"image_path": f"{i}.jpg", "question": question, "answer": answer}
        for i, answer in enumerate(["yes", "no", "red", "blue"])
    ]
    made = DistractorSampler(rows, 4, 42, different).choices(0)
    assert sorted(made.options) == ["no", "yes"]


def test_frequency_gives_nothing_away() -> None:
    rows = skewed(2000)
    ours, even = (
        DistractorSampler(rows, 4, 42, different),
        DistractorSampler(rows, 4, 42, different),
    )
    even._weights = {form: np.ones(len(w)) for form, w in even._weights.items()}
    even._samplers = {form: SubsetSampler(w, 3) for form, w in even._weights.items()}
    blind = [
        blind_choice_accuracy([r for r in rows if r["answer"] != "yes"],
                       [c.choices(i) for i, r in enumerate(rows) if r["answer"] != "yes"], 1)
        for c in (ours, even)
    ]  # fmt: skip
    assert blind[0]["chance"] == blind[1]["chance"] == 0.25
    assert blind[0]["type"] < 0.29
    assert blind[1]["type"] > 0.36


def test_choices_are_distinct_seeded_and_hold_the_answer() -> None:
    rows = skewed(100)
    chooser = DistractorSampler(rows, 4, 42, different)
    again = DistractorSampler(rows, 4, 42, different)
    alone = {i: again.choices(i) for i in reversed(range(len(rows)))}
    places = Counter()
    for i, row in enumerate(rows):
        made = chooser.choices(i)
        assert made.options[made.answer] == row["answer"]
        assert len(set(made.options)) == len(made.options)
        assert len(made.options) == (2 if row["answer"] == "yes" else 4)
        assert made == alone[i]  # whatever was chosen before
        places[made.answer] += len(made.options) == 4
    assert min(places.values()) > 10  # no place is the right one's


def test_types_stay_together_and_spelling_is_one() -> None:
    rows = [
        {"image_path": f"{i}.jpg", "question": "How many are there?", "answer": answer}
        for i, answer in enumerate(["1", "2", "3", "4", "5", "one", "two"] * 10)
    ]
    rows += [
        {"image_path": f"c{i}.jpg", "question": "What color is it?", "answer": color}
        for i, color in enumerate(COLORS * 5)
    ]
    chooser = DistractorSampler(rows, 4, 42, different)
    for i, row in enumerate(rows):
        made = chooser.choices(i)
        if row["question"].startswith("How"):
            assert all(option.isdigit() for option in made.options)
        else:
            assert set(made.options) <= set(COLORS)
        assert normalise(made.options[made.answer]) == normalise(row["answer"])


def test_other_right_answers_and_words_of_the_question_are_no_distractors() -> None:
    rows = [
        {"image_path": "a.jpg", "question": "What color is it?", "answer": "red"},
        {"image_path": "a.jpg", "question": "What color is it?", "answer": "blue"},
        {"image_path": "b.jpg", "question": "What color, green or not?", "answer": "white"},
        *[{"image_path": f"{c}.jpg", "question": "What color is it?", "answer": c}
          for c in COLORS],
    ]  # fmt: skip
    for seed in range(30):
        chooser = DistractorSampler(rows, 4, seed, different)
        assert "blue" not in chooser.choices(0).options
        assert "green" not in chooser.choices(2).options


@pytest.fixture(scope="module")
def same() -> Equivalence:
    words = {"gray", "grey", "sofa", "couch", "red", "blue", "two", "pair", "three", "box", "boxes"}
    return synonym_test(ROOT / "conf" / "aliases.csv", words)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("gray", "grey", True),  # an alias
        ("sofa", "couch", True),  # a synonym
        ("two", "pair", True),
        ("two", "three", False),
        ("red", "blue", False),
        ("mug", "mugs", True),
        ("red", "red", True),
    ],
)
def test_same_meaning(same: Equivalence, one: str, other: str, expected: bool) -> None:
    assert same(one, other) == same(other, one) == expected


def test_a_damaged_wordnet_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "corpora" / "wordnet").mkdir(parents=True)
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path), *nltk.data.path])
    same = synonym_test(ROOT / "conf" / "aliases.csv", {"sofa", "couch", "red"})
    assert same("sofa", "couch")
    assert not same("sofa", "red")


def test_no_synonym_among_the_choices(same: Equivalence) -> None:
    answers = ["sofa", "couch", "red", "blue", "gray", "grey", "box"] * 4
    rows = [
        {"image_path": f"{i}.jpg", "question": "What is it?", "answer": a}
        for i, a in enumerate(answers)
    ]
    chooser = DistractorSampler(rows, 4, 42, same)
    for i in range(len(rows)):
        options = chooser.choices(i).options
        assert not any(same(a, b) for a, b in itertools.combinations(map(normalise, options), 2))


def test_too_few_answers() -> None:
    rows = [{"image_path": "a.jpg", "question": "What is it?", "answer": "mug"}]
    with pytest.raises(UserError, match="only 0 wrong answers fit"):
        DistractorSampler(rows, 4, 42, different).choices(0)
    with pytest.raises(UserError, match="between 2 and 26"):
        DistractorSampler(rows, 1, 42, different)


def test_letters_symbols_and_blank_answers_are_choices_like_others() -> None:
    answers = ["A", "B", "S", "+", "A++", "The", "", "&", "hand-held"]
    rows = [
        {"image_path": f"{i}.jpg", "question": "What is on the cap?", "answer": answer}
        for i, answer in enumerate(answers * 3)
    ]
    same = synonym_test(Path("conf/aliases.csv"), {normalise(answer) for answer in answers})
    assert not any((same("s", "ss"), same("a", ""), same("a", "a++")))
    chooser = DistractorSampler(rows, 3, 42, same)
    for i, row in enumerate(rows):
        made = chooser.choices(i)
        assert made.options[made.answer] == row["answer"]
        assert len(set(made.options)) == 3
