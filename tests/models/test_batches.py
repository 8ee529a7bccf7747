"""The order of rows, and which of them share a batch."""

import pandas as pd

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


def test_a_group_larger_than_a_batch_is_cut() -> None:
    formed = form_batches(["a"] * 5 + ["b"], 2)
    assert [len(batch) for batch in formed] == [2, 2, 2]
    assert sorted(i for batch in formed for i in batch) == list(range(6))
