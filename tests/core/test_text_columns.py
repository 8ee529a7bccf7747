"""Columns of strings, and the memory that reading tables of any format takes."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pandas as pd
import pytest

from abo_vqa.core.text_columns import TextColumns
from abo_vqa.data.columns import read_columns

ROWS = 20_000


def test_rows_without_a_column_have_an_empty_cell() -> None:
    columns = TextColumns()
    for row in ({"a": "1"}, {"b": "None", "c": ""}, {"a": "1"}):
        columns.append(row)
    frame = columns.frame(["z", "a"])
    assert frame.to_dict("list") == {
        "z": [""] * 3, "a": ["1", "", "1"], "b": ["", "None", ""], "c": [""] * 3,
    }  # fmt: skip
    assert all(isinstance(kind, pd.StringDtype) for kind in frame.dtypes)


@pytest.mark.parametrize(("suffix", "most"), [("csv", 620), ("parquet", 500)])
def test_reading_takes_little_more_than_the_tables_own_texts(
    tmp_path: Path, suffix: str, most: int
) -> None:
    """As lists or dicts, each row with texts of its own, they take 670 bytes a row and more."""
    table = pd.DataFrame(
        {
            "image_path": [f"fa/{row // 5:08}.jpg" for row in range(ROWS)],
            "question": [f"What color is part {row % 50} of it?" for row in range(ROWS)],
            "answer": ["red"] * ROWS,
            "notes": [f"the same annotator, for the {row % 9}. time" for row in range(ROWS)],
        }
    )
    path = tmp_path / f"a.{suffix}"
    getattr(table, f"to_{suffix}")(path, index=False)
    read_columns(path, ("image_path", "question", "answer"))  # what is imported, once
    tracemalloc.start()
    frame = read_columns(path, ("image_path", "question", "answer")).frame
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    pd.testing.assert_frame_equal(frame, table)
    assert peak < most * ROWS
