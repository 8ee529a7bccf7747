import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from abo_vqa.core import table_parts, tables
from abo_vqa.core.errors import UserError
from abo_vqa.core.tables import (
    STUDY_COLUMNS,
    TableWriter,
    iter_table,
    read_table,
    table_columns,
    table_files,
    write_table,
)


def test_an_alias_is_read_where_the_proper_name_is_missing(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text("path,name\na/1.jpg,None\n")
    table = read_table(file, ("image_path", "name"), STUDY_COLUMNS)
    assert table.to_dict("records") == [{"image_path": "a/1.jpg", "name": "None"}]
    with pytest.raises(UserError, match=r"lacks the column\(s\) image_path; it has path, name"):
        read_table(file, ("image_path",))
    file.write_text("path,image_path\nsrc,a/1.jpg\n")
    table = read_table(file, ("image_path",), STUDY_COLUMNS)
    assert table.to_dict("records") == [{"path": "src", "image_path": "a/1.jpg"}]


def test_two_columns_of_an_alias_are_refused(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text("path,path\na,b\n")
    with pytest.raises(UserError, match="several columns called path"):
        read_table(file, ("image_path",), STUDY_COLUMNS)


ODD = pd.DataFrame(
    {
        "image_path": [f"a/{n}.jpg" for n in range(1000)],
        "answer": ["None", "NA", "", 'say "a, b"', "two\nlines"] * 200,
        "row_id": range(1000),
        "confidence": [0.1, np.nan, 1e16, 1e-7, 3.0] * 200,
        "known": [True, False] * 500,
        "mixed": [None, 1, 2.5, "x", np.nan] * 200,
    }
)


@pytest.fixture
def small_parts(monkeypatch):
    """Tables of more than 100 rows become parts of 64, in groups of 16."""
    monkeypatch.setattr(tables, "PARTITION_ROWS", 100)
    monkeypatch.setattr(table_parts, "PART_ROWS", 64)
    monkeypatch.setattr(table_parts, "GROUP_ROWS", 16)
    monkeypatch.setattr(tables, "GROUP_ROWS", 16)


def test_a_large_table_is_a_folder_with_the_same_texts(tmp_path, small_parts, monkeypatch):
    path = write_table(ODD, tmp_path / "t.csv")
    assert sorted(p.name for p in path.iterdir()) == [f"part-{n:05}.parquet" for n in range(16)]
    read = read_table(path)
    monkeypatch.setattr(tables, "PARTITION_ROWS", 1000)
    file = write_table(ODD, tmp_path / "small.csv")
    assert file.read_bytes() == ODD.to_csv(index=False, lineterminator="\n").encode()
    pd.testing.assert_frame_equal(read_table(file), read)
    assert read["answer"].tolist() == ODD["answer"].tolist()
    assert read["confidence"].tolist()[:5] == ["0.1", "", "1e+16", "1e-07", "3.0"]


@pytest.mark.parametrize("rows", [0, 1, 99, 100, 101, 129, 1000])
@pytest.mark.parametrize("piece", [1, 7, 16, 500])
def test_written_piece_by_piece_the_bytes_are_the_same(tmp_path, small_parts, rows, piece):
    table = ODD.iloc[:rows]
    whole = write_table(table, tmp_path / "whole.csv")
    with TableWriter(tmp_path / "pieces.csv", list(table)) as writer:
        for start in range(0, rows, piece):
            writer.write(table.iloc[start : start + piece])
    content = [
        [(f.name if p.is_dir() else "", f.read_bytes()) for f in table_files(p)]
        for p in (whole, tmp_path / "pieces.csv")
    ]
    assert content[0] == content[1]
    assert whole.is_dir() == (rows > 100)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize("limit", [100, 1000])
def test_pieces_are_of_one_size_in_either_layout(tmp_path, small_parts, monkeypatch, limit):
    monkeypatch.setattr(tables, "PARTITION_ROWS", limit)
    path = write_table(ODD, tmp_path / "t.csv")
    pieces = list(iter_table(path, ["answer", "row_id"], rows=150))
    assert [len(piece) for piece in pieces] == [150] * 6 + [100]
    pd.testing.assert_frame_equal(pd.concat(pieces), read_table(path)[["answer", "row_id"]])
    assert table_columns(path) == list(ODD)
    empty = write_table(ODD.iloc[:0], tmp_path / "e.csv")
    assert [list(piece) for piece in iter_table(empty, ["answer"])] == [["answer"]]


@pytest.mark.parametrize("limit", [100, 1000])
def test_only_some_columns_are_read_under_their_proper_names(
    tmp_path, small_parts, monkeypatch, limit
):
    monkeypatch.setattr(tables, "PARTITION_ROWS", limit)
    path = write_table(ODD.rename(columns={"image_path": "path"}), tmp_path / "t.csv")
    table = read_table(path, aliases=STUDY_COLUMNS, columns=["answer", "image_path"])
    assert list(table) == ["answer", "image_path"]
    assert table["image_path"].tolist() == ODD["image_path"].tolist()
    with pytest.raises(UserError, match=r"lacks the column\(s\) image_path; it has path, answer"):
        read_table(path, columns=["image_path"])


def test_a_table_takes_the_place_of_one_of_the_other_layout(tmp_path, small_parts):
    path = tmp_path / "t.csv"
    for rows in (50, 500, 400, 50, 300):
        write_table(ODD.iloc[:rows], path)
        assert len(read_table(path)) == rows
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]


def test_a_failed_write_leaves_the_former_table(tmp_path, small_parts):
    path = write_table(ODD.iloc[:150], tmp_path / "t.csv")
    with pytest.raises(RuntimeError), TableWriter(path) as writer:
        writer.write(ODD)
        raise RuntimeError
    assert len(read_table(path)) == 150
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]


def test_a_folder_that_is_no_table_is_neither_read_nor_replaced(tmp_path, small_parts):
    folder = tmp_path / "t.csv"
    folder.mkdir()
    with pytest.raises(UserError, match=r"t\.csv is a folder that holds nothing\. A table is a"):
        read_table(folder)
    (folder / "notes.txt").write_text("mine")
    for act in (read_table, iter_table, lambda p: write_table(ODD, p), TableWriter):
        with pytest.raises(UserError, match=r"holds notes\.txt\. A table is a CSV file, or a f"):
            act(folder)
    (folder / "notes.txt").unlink()
    write_table(ODD, folder)
    (folder / "part-00003.parquet").unlink()
    with pytest.raises(UserError, match=r"lacks part-00003\.parquet, though it holds part-00015"):
        read_table(folder)
    (folder / "part-00003.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"part-00003\.parquet isn't a Parquet file, or is damage"):
        read_table(folder)


def test_a_folder_of_sparks_is_a_table_if_its_columns_are_texts(tmp_path):
    folder = tmp_path / "t.csv"
    folder.mkdir()
    (folder / "_SUCCESS").touch()
    texts = pa.table({"answer": ["None", None], "n": ["1", "2"]})
    parquet.write_table(texts, folder / "part-00002-c000.snappy.parquet")
    assert read_table(folder).values.tolist() == [["None", "1"], ["", "2"]]
    parquet.write_table(
        pa.table({"answer": ["x"], "n": [1]}), folder / "part-00004-c000.snappy.parquet"
    )
    with pytest.raises(UserError, match=r"columns that aren't texts: n \(int64\)\. A table is"):
        read_table(folder)
    parquet.write_table(pa.table({"n": ["1"]}), folder / "part-00004-c000.snappy.parquet")
    with pytest.raises(UserError, match=r"has the columns n, and part-00002-c000\."):
        read_table(folder)
