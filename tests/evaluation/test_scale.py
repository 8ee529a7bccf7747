"""Scoring of tables that are large: what is computed once, and what other processes may compute."""

import pickle
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from abo_vqa.core.errors import UserError
from abo_vqa.core.tables import iter_table
from abo_vqa.data import questions
from abo_vqa.data.normalise import normalise
from abo_vqa.evaluation import pair_scores, predictions
from abo_vqa.evaluation.distinct_pairs import distinct_pairs
from abo_vqa.evaluation.predictions import join_predictions, read_predictions
from abo_vqa.evaluation.rows import describe_rows

NAMES = ("exact_match", "f1", "wup", "rougeL", "alias_accuracy")
WORDS = ("red", "Red", "dark red", "", "two", "2", "lamp", "é", "\U0001f600", "\uffee")


def some_table(n: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    failed = rng.random(n) < 0.2
    return pd.DataFrame(
        {
            "prediction": np.where(failed, "", rng.choice(WORDS, n)),
            "answer": rng.choice(WORDS, n),
            "error": np.where(failed, "out of memory", ""),
        }
    )


def test_distinct_pairs_are_those_of_a_set():
    parts = [some_table(300, 0), some_table(50, 1)]
    found = distinct_pairs(parts)
    rows = [list(zip(t["prediction"], t["answer"], t["error"] != "", strict=True)) for t in parts]
    assert found.pairs == sorted({(p, a) for t in rows for p, a, failed in t if not failed})
    for table, positions in zip(rows, found.positions, strict=True):
        for (prediction, answer, failed), position in zip(table, positions, strict=True):
            assert (position < 0) == failed
            assert failed or found.pairs[position] == (prediction, answer)


def test_distinct_pairs_of_nothing():
    nothing = some_table(5, 0).assign(error="out of memory")
    assert distinct_pairs([nothing]).pairs == []
    scores = pair_scores.score_pairs([], ["f1", "rouge1"])
    columns = scores.columns(distinct_pairs([nothing]).positions[0])
    assert all(np.isnan(columns[name]).all() for name in ("f1", "rouge1"))


def test_batches_may_be_scored_elsewhere(monkeypatch):
    pairs = distinct_pairs([some_table(400, 2)]).pairs
    aliases = Path("conf/aliases.csv")
    alone = pair_scores.score_pairs(pairs, NAMES, alias_table=aliases)
    monkeypatch.setattr(pair_scores, "BATCH_PAIRS", 7)
    sizes = []

    def elsewhere(function, batches):
        sizes.extend(len(batch) for batch in batches)
        for batch in batches:  # as a worker would get them
            yield pickle.loads(pickle.dumps(function))(pickle.loads(pickle.dumps(batch)))

    dealt = pair_scores.score_pairs(pairs, NAMES, alias_table=aliases, run=elsewhere)
    assert sizes == [7] * (len(pairs) // 7) + ([len(pairs) % 7] if len(pairs) % 7 else [])
    assert dealt.signature == alone.signature
    for name in NAMES:
        assert np.array_equal(dealt.values[name], alone.values[name])


@pytest.fixture
def test_rows():
    rng = np.random.default_rng(3)
    asked = ["What color is it?", "what COLOR is it?", "How many lamps?", "Is it red?", "Why?"]
    n = 60
    return pd.DataFrame(
        {
            "row_id": [str(i) for i in range(0, 2 * n, 2)],
            "image_path": rng.choice(["a.jpg", "b.jpg", "c.jpg"], n),
            "question": rng.choice(asked, n),
            "answer": rng.choice(WORDS, n),
        }
    )


def test_rows_are_described_one_by_one(test_rows):
    rng = np.random.default_rng(4)
    train = pd.DataFrame(
        {
            "question": rng.choice(["WHAT color is it?", "Is it red?", "Another?"], 40),
            "answer": rng.choice([*WORDS, "another"], 40),
        }
    )
    described = describe_rows(test_rows, train)
    counts = Counter(normalise(answer) for answer in train["answer"])
    asked = {q.lower() for q in train["question"]}
    known = {
        (q.lower(), normalise(a)) for q, a in zip(train["question"], train["answer"], strict=True)
    }
    for row in described.to_dict("records"):
        answer = normalise(row["answer"])
        assert row["question_type"] == questions.question_type(row["question"])
        assert row["question_subtype"] == questions.question_subtype(row["question"])
        assert row["answer_type"] == questions.answer_type(answer)
        assert row["answer_words"] == str(len(answer.split()))
        low, _, high = row["answer_frequency"].partition("-")
        assert int(low) <= counts[answer] <= int(high or low)
        assert row["seen_question"] == (row["question"].lower() in asked)
        assert row["seen_pair"] == ((row["question"].lower(), answer) in known)


def test_equal_texts_are_one_object_in_all_tables(test_rows):
    rows = describe_rows(test_rows, None)
    answers = pd.DataFrame({"prediction": "red", "confidence": 0.5, "error": ""}, index=range(200))
    joined = [join_predictions(rows, answers, model) for model in ("a", "b")]
    questions_of = [table["question"].to_numpy() for table in joined]
    assert np.shares_memory(*questions_of)
    assert len({id(text) for text in questions_of[0]}) == rows["question"].nunique()


def written(path, row_ids, monkeypatch):
    """A table that is read in pieces of three rows."""
    monkeypatch.setattr(predictions, "iter_table", partial(iter_table, rows=3))
    pd.DataFrame({"row_id": row_ids, "prediction": "red", "confidence": "", "error": ""}).to_csv(
        path, index=False
    )
    return path


def test_only_the_wanted_predictions_are_kept(tmp_path, monkeypatch):
    path = written(tmp_path / "p.csv", [4, 3, 0, 1, 2, 9, 8], monkeypatch)
    assert list(read_predictions(path, 10).index) == [4, 3, 0, 1, 2, 9, 8]
    assert list(read_predictions(path, 10, np.array([0, 8, 3])).index) == [3, 0, 8]


@pytest.mark.parametrize(
    ("row_ids", "message"),
    [
        ([4, 3, 0, 1, 4, 3], "has row 4 twice"),  # in two pieces
        ([4, 3, 3, 1], "has row 3 twice"),  # in one
        ([4, 3, 0, 10], "answers row 10, but data/vqa.csv has rows 0 to 9"),
        ([4, -1], "answers row -1"),
        ([4, "x"], "row_id and confidence are numbers"),
    ],
)
def test_predictions_that_arent_wanted_are_checked_as_well(tmp_path, monkeypatch, row_ids, message):
    path = written(tmp_path / "p.csv", row_ids, monkeypatch)
    for only in (None, np.array([0])):
        with pytest.raises(UserError, match=message):
            read_predictions(path, 10, only)
