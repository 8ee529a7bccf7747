"""Definitions to the digit, and what must hold for any two strings."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abo_vqa.data.normalise import normalise
from abo_vqa.evaluation import lexical, wordnet_metrics
from abo_vqa.evaluation.aliases import alias_match
from abo_vqa.evaluation.pair_scores import METRIC_NAMES, TEXT_METRICS, score_pairs

WORDS = [
    "red",
    "the red",
    "Red!",
    "2",
    "two",
    "",
    "a",
    "stripes",
    "gray chair",
    "chair gray",
    "x-1",
]
texts = st.sampled_from(WORDS) | st.text(alphabet="ab the12-.! é", max_size=12)
BOUNDED = sorted(TEXT_METRICS)


@pytest.mark.parametrize(
    ("prediction", "reference", "f1", "meteor", "wup"),
    [("white", "cream", 0, 0, 0.18181818), ("four", "five", 0, 0, 0.90909091),
     ("red", "red", 1, 0.5, 1)],
)  # fmt: skip
def test_values_of_the_study(prediction, reference, f1, meteor, wup):
    assert lexical.f1(prediction, reference) == f1
    assert wordnet_metrics.meteor(prediction, reference) == meteor
    assert wordnet_metrics.wup(prediction, reference) == pytest.approx(wup, abs=5e-9)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("The 10 Red-Chairs", "ten redchairs"), ("11", "11"), ("a 2 an 0", "two zero"),
     ("A-line", "line"), ("1.5", "onefive"), ("  ", ""), ("another", "another")],
)  # fmt: skip
def test_norm(text, expected):
    assert normalise(text) == expected


@pytest.mark.parametrize("name", BOUNDED)
@given(prediction=texts, reference=texts)
def test_scores_are_between_0_and_1(name, prediction, reference):
    assert 0 <= TEXT_METRICS[name](prediction, reference) <= 1 + 1e-12


@pytest.mark.parametrize("name", ["exact_match", "token_match", "f1", "word_overlap_f1"])
@given(a=texts, b=texts)
def test_symmetric_ones_are(name, a, b):
    assert TEXT_METRICS[name](a, b) == pytest.approx(TEXT_METRICS[name](b, a))


@given(text=texts.filter(str.strip))
def test_equal_texts_are_right(text):
    for name in ("exact_match", "token_match", "f1"):
        assert TEXT_METRICS[name](text, text) == 1


def test_order_of_words_matters_to_exact_match_only():
    assert lexical.exact_match("gray chair", "chair gray") == 0
    assert lexical.token_match("gray chair", "chair gray") == 1
    assert lexical.f1("red red", "red") == 1
    assert lexical.token_match("red red", "red") == 0


def test_one_right_word_gets_half_a_meteor_and_hardly_any_bleu():
    assert lexical.bleu("red", "red") == pytest.approx(0.1778, abs=1e-4)
    for metric in (lexical.bleu, wordnet_metrics.meteor, wordnet_metrics.wup):
        assert metric("", "red") == 0


def test_rows_are_the_same_scored_at_once_or_one_by_one_in_any_order():
    pairs = [(a, b) for a in WORDS for b in WORDS]
    names = [name for name in METRIC_NAMES if name in TEXT_METRICS]
    forth, back = score_pairs(pairs * 2, names), score_pairs(pairs[::-1], names)
    for name in names:
        for pair in pairs:
            alone = TEXT_METRICS[name](*pair)
            assert forth.values[name][forth.distinct.index(pair)] == alone
            assert back.values[name][back.distinct.index(pair)] == alone


def test_a_pair_is_scored_once_however_many_rows_have_it(monkeypatch):
    asked = []
    monkeypatch.setitem(TEXT_METRICS, "f1", lambda *pair: asked.append(pair) or 0.0)
    pairs = [("red", "blue"), ("two", "2"), ("red", "blue")] * 50
    score_pairs(pairs, ["f1"])
    assert sorted(asked) == [("red", "blue"), ("two", "2")]


def test_signatures_name_libraries_and_wordnet():
    said = score_pairs([("red", "red")], ["bleu", "meteor", "wup", "rougeL"]).signature
    assert "smoothing method 1" in said["bleu"]
    assert all("for comparison" in said[name] for name in ("bleu", "meteor", "wup"))
    assert all("WordNet 3." in said[name] for name in ("meteor", "wup"))
    assert said["rougeL"].startswith("rouge_score 0.")


def test_meteor_is_the_librarys():
    from nltk.translate.meteor_score import meteor_score

    from abo_vqa.evaluation.wordnet import ensure_wordnet
    from abo_vqa.evaluation.wordnet_reader import WordNetReader

    wordnet = WordNetReader(ensure_wordnet())
    for said, wanted in [("couch", "sofa"), ("striped", "stripe"), ("gray chair", "chair gray")]:
        plain = meteor_score([wanted.split()], said.split(), wordnet=wordnet)
        assert wordnet_metrics.meteor(said, wanted) == plain


EMPTY = ["A", "a", "The", "+", "-", "A++", "&", "?", "🔴", "🔵", "an"]


@pytest.mark.parametrize("name", ["exact_match", "token_match", "f1"])
def test_answers_that_normalise_to_nothing_are_told_apart(name):
    score = TEXT_METRICS[name]
    for one in EMPTY:
        for other in [*EMPTY, "", " ", "red"]:
            assert score(one, other) == float(one.lower() == other.lower()), (one, other)


@pytest.mark.parametrize("name", [*BOUNDED, "alias_accuracy"])
@given(reference=texts | st.text(max_size=8), blank=st.sampled_from(["", " ", "\t\n", "\u00a0"]))
def test_a_blank_prediction_is_wrong(name, reference, blank):
    score = TEXT_METRICS.get(name) or (lambda said, wanted: alias_match(said, wanted, {}))
    assert score(blank, reference) == 0


@given(text=st.text(max_size=12).filter(str.strip))
def test_any_text_equals_itself_and_its_spellings(text):
    for other in (text, f" {text} ", unicodedata.normalize("NFD", text)):
        for name in ("exact_match", "token_match", "f1"):
            assert TEXT_METRICS[name](text, other) == 1
    assert alias_match(text, text, {}) == 1


@given(a=st.text(max_size=5), b=st.text(max_size=5))
def test_exact_match_is_symmetric(a, b):
    assert lexical.exact_match(a, b) == lexical.exact_match(b, a)


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [("2", "2.0", 1), ("two", "2.0", 1), ("1.50", "1.5", 1), ("1.5", "15", 0), ("12.25", "1225", 0),
     ("12.50", "1250", 0), (".5", "5", 0), (".5", "0.50", 1), ("1,000", "1000", 1), ("2", "२", 1),
     ("$12.00", "12", 1), ("2.0.1", "2.1", 0), ("20", "2", 0), ("100", "1", 0), ("10.0", "10", 1),
     ("cafe\u0301", "café", 1), ("cafe", "café", 0), ("नीला", "नाला", 0), ("นา", "นี", 0),
     ("1\ufe0f\u20e3", "1", 1)],
)  # fmt: skip
def test_numbers_and_letters_of_any_spelling(a, b, same):
    for name in ("exact_match", "token_match", "f1"):
        assert TEXT_METRICS[name](a, b) == same
        assert TEXT_METRICS[name](b, a) == same


@given(a=st.text(max_size=6), b=st.text(max_size=6))
def test_wordnet_takes_any_word(a, b):
    assert 0 <= wordnet_metrics.wup(a, b) <= 1
    assert 0 <= wordnet_metrics.meteor(a, b) <= 1
    assert wordnet_metrics.lemmatize(a) or not a
