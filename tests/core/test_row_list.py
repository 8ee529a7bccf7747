"""Rows in Arrow's memory are like a list of dicts, and are written as one."""

import pandas as pd
import pytest

from abo_vqa.core import row_list
from abo_vqa.core.errors import UserError
from abo_vqa.core.row_list import RowList, write_rows
from abo_vqa.core.tables import write_table

ROWS = [{"image": f"{i // 3}.jpg", "question": f"q{i}, \"é\"", "answer": "" if i % 4 else "x"}
        for i in range(23)]  # fmt: skip


@pytest.fixture(params=[4, 23, 4096], autouse=True)
def chunk(request, monkeypatch) -> int:
    monkeypatch.setattr(row_list, "_CHUNK", request.param)
    return request.param


def test_rows_are_what_was_added() -> None:
    rows = RowList(ROWS[:5])
    rows.extend(ROWS[5:])
    assert list(rows) == ROWS
    assert len(rows) == len(ROWS)
    assert [rows[i] for i in range(-23, 23)] == ROWS + ROWS
    assert rows[3:9] == ROWS[3:9]
    with pytest.raises(IndexError):
        rows[23]
    assert list(RowList()) == []


def test_only_some_rows_are_pythons_objects_at_a_time(chunk: int) -> None:
    rows = RowList(ROWS)
    assert len(rows._latest) < chunk
    assert max(map(len, rows.pieces())) <= chunk


def test_a_dict_is_a_copy() -> None:
    rows = RowList(ROWS)
    for row in rows:
        row["answer"] = "changed"
    rows[-1]["answer"] = "changed"
    assert list(rows) == ROWS


def test_a_row_that_lacks_a_column_is_refused(chunk: int) -> None:
    rows = RowList(ROWS[:2])
    with pytest.raises(KeyError, match="question"):
        rows.extend([{"image": "x.jpg"}] * chunk)


def test_a_table_is_read_and_written_as_a_frame_is(tmp_path) -> None:
    whole, parts = tmp_path / "whole.csv", tmp_path / "parts.csv"
    write_table(pd.DataFrame(ROWS), whole)
    write_rows(RowList(ROWS), parts)
    assert parts.read_bytes() == whole.read_bytes()
    assert list(RowList.read(parts, ["image"])) == ROWS
    assert RowList.read(parts, ["path"], {"image": "path"})[0]["path"] == "0.jpg"
    with pytest.raises(UserError, match="lacks"):
        RowList.read(parts, ["nothing"])


def test_a_table_without_rows_has_its_columns(tmp_path) -> None:
    write_rows([], tmp_path / "t.csv", ["a", "b"])
    assert (tmp_path / "t.csv").read_text() == "a,b\n"
    assert list(RowList.read(tmp_path / "t.csv")) == []
