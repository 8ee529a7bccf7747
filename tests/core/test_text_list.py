"""Texts in Arrow's memory: what they are as a list and as an index, and how they are read."""

import numpy as np
import pandas as pd
import pytest

from abo_vqa.core import text_list
from abo_vqa.core.errors import UserError
from abo_vqa.core.text_list import TextBatches, TextIndex, TextList, distinct_texts

TEXTS = ["b/1.jpg", "a/é.jpg", "a/z.jpg", "", "a/\U0001f5bc.jpg", "a/\uff21.jpg", "B"]


def test_a_list_is_like_pythons() -> None:
    texts = TextList(TEXTS)
    assert list(texts) == TEXTS
    assert texts[2] == TEXTS[2]
    assert texts[-1] == TEXTS[-1]
    for part in (slice(2, 5), slice(5, 99), slice(4, 2), slice(None, None, 2)):
        assert texts[part] == TEXTS[part]
    assert TEXTS[1] in texts
    assert "c" not in texts


def test_a_tables_column_is_one_without_a_copy() -> None:
    column = pd.Series(TEXTS, dtype="str")
    assert list(TextList.of(column)) == TEXTS
    assert list(TextList.of(column.astype(object))) == TEXTS


@pytest.mark.parametrize("same", [False, True])
def test_an_index_finds_positions(same, monkeypatch) -> None:
    if same:  # two texts' hashes may be equal
        monkeypatch.setattr(text_list, "_hashes", lambda texts: np.ones(len(texts), np.uint64))
    index = TextIndex(TextList(TEXTS))
    assert index == {text: i for i, text in enumerate(TEXTS)}
    assert index.places(["B", "c", ""]).tolist() == [6, -1, 3]
    assert index.places([]).tolist() == []
    assert "a/z.jpg" in index
    with pytest.raises(KeyError):
        index["c"]


def test_of_equal_texts_the_last_one_counts_as_in_a_dict() -> None:
    assert TextIndex(TextList(["a", "b", "a"])).places(["a", "b"]).tolist() == [2, 1]


@pytest.mark.parametrize("merged_from", [0, 3, 1 << 17])
def test_distinct_texts_are_those_of_a_sorted_set(merged_from, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(text_list, "_MERGED_FROM", merged_from)
    whole = text_list.iter_table
    monkeypatch.setattr(text_list, "iter_table", lambda *args: whole(*args, rows=4))
    texts = [TEXTS[i % 7] if i % 3 else f"c/{i}.jpg" for i in range(40)]
    pd.DataFrame({"image_path": texts, "question": "what?"}).to_csv(tmp_path / "t.csv", index=False)
    assert list(distinct_texts(tmp_path / "t.csv", "image_path")) == sorted(set(texts))


def test_a_table_without_rows_has_no_texts(tmp_path) -> None:
    (tmp_path / "t.csv").write_text("image_path,question\n")
    assert list(distinct_texts(tmp_path / "t.csv", "image_path")) == []
    with pytest.raises(UserError, match="lacks"):
        distinct_texts(tmp_path / "t.csv", "path")


PATHS = [f"{i:02d}.jpg" for i in range(11)]


@pytest.mark.parametrize("start", [0, 2, 3])
def test_batches_are_slices(start: int) -> None:
    expected = [PATHS[i : i + 4] for i in range(4 * start, 11, 4)]
    assert list(TextBatches(TextList(PATHS), 4, start)) == expected
    assert len(TextBatches(TextList(PATHS), 4, start)) == len(expected)
    with_empty = TextBatches(TextList(PATHS), 4, start, empty_first=True)
    assert list(with_empty) == [[], *expected]
    assert with_empty[1:] == expected
    assert len(with_empty) == len(expected) + 1


def test_without_texts_there_is_only_the_empty_batch() -> None:
    assert list(TextBatches(TextList([]), 4, empty_first=True)) == [[]]
