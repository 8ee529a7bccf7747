"""The order of rows, and which of them share a batch."""

from random import Random

import numpy as np
import pandas as pd
import pytest

from abo_vqa.models.answering import batches
from abo_vqa.models.answering.batches import form_batches
from abo_vqa.models.answering.sampling import sample_rows


def test_order_is_the_studys_and_fractions_are_prefixes() -> None:
    table = pd.DataFrame({"image_path": "p", "question": [f"q{i}" for i in range(1000)]})
    whole = sample_rows(table, 42, 1.0)
    assert sorted(whole["row_id"]) == list(range(1000))
    assert list(whole["row_id"]) == list(table.sample(frac=1, random_state=42).index)
    for fraction in (0.02, 0.25, 0.5):
        part = sample_rows(table, 42, fraction)
        assert len(part) == int(1000 * fraction)
        pd.testing.assert_frame_equal(part, whole.head(len(part)))
    assert (whole["question"] == [f"q{i}" for i in whole["row_id"]]).all()


def test_batches_keep_a_pictures_questions_together() -> None:
    keys = [f"{i % 7}" for i in range(21)]
    formed = form_batches(keys, 8)
    assert sorted(i for batch in formed for i in batch) == list(range(21))
    assert max(map(len, formed)) <= 8
    for key in set(keys):
        assert sum(any(keys[i] == key for i in batch) for batch in formed) == 1


@pytest.mark.parametrize("as_column", [False, True])
def test_batches_are_those_of_groups_in_sorted_order(as_column: bool, monkeypatch) -> None:
    monkeypatch.setattr(batches, "_PIECE", 5)
    random = Random(0)
    for size in (1, 2, 3, 8):
        for groups in (1, 3, 20, 200):
            keys = [
                f"{random.randrange(groups)}é\U0001f5bc"[random.randrange(3) :] for _ in range(90)
            ]
            expected: list[list[int]] = [[]]
            for key in sorted(set(keys)):
                group = [i for i, other in enumerate(keys) if other == key]
                if expected[-1] and len(expected[-1]) + len(group) > size:
                    expected.append([])
                for start in range(0, len(group), size):
                    if len(expected[-1]) >= size:
                        expected.append([])
                    expected[-1] += group[start : start + size]
            formed = form_batches(pd.Series(keys) if as_column else keys, size)
            assert list(formed) == expected
            assert formed[-1] == expected[-1]
            done = np.array([random.random() < 0.6 for _ in keys])
            left = [[i for i in batch if not done[i]] for batch in expected]
            assert list(formed.without(done)) == [batch for batch in left if batch]


def test_without_rows_there_are_no_batches() -> None:
    assert list(form_batches([], 4)) == []
    assert list(form_batches(["a", "b"], 4).without(np.array([True, True]))) == []


def test_a_group_larger_than_a_batch_is_cut() -> None:
    formed = form_batches(["a"] * 5 + ["b"], 2)
    assert [len(batch) for batch in formed] == [2, 2, 2]
    assert sorted(i for batch in formed for i in batch) == list(range(6))
