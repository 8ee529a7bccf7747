import gzip

import pytest

from abo_vqa.core import csvfile, text_lines
from abo_vqa.core.csvfile import read_csv
from abo_vqa.core.errors import UserError
from abo_vqa.core.tables import iter_table


def parsed(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode(encoding))
    return read_csv(path)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_separators_line_ends_and_marks(tmp_path, separator, end):
    text = end.join([f"answer{separator}prediction", f"None{separator}NA", "", f"x{separator}"])
    table = parsed(tmp_path, text, "utf-8-sig")
    assert table.frame.values.tolist() == [["None", "NA"], ["x", ""]]
    assert list(table.frame) == ["answer", "prediction"]
    assert table.lines.tolist() == [2, 4]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b,c\n1,2,3\n1,2\n1\n", r"2 line\(s\) have fewer fields .*line 3 has 2, line 4 has 1"),
        ("a,b\n1,2,3\n", r"1 line\(s\) have more fields .*line 2 has 3"),
        ("a,b\n1,2,3\n1\n", "fewer or more"),
        ('a,b\n1,"2\n3,4\n5,6\n', "line 2: a quote isn't closed"),
        ('a,b\n1,"2" x\n', "line 2: a quote"),
        ('a,b,c\n1,2,"3\n4,5,6\n7,8,9"\n', "opened on line 2 is only closed on line 4"),
        ("a,b\n\0,1\n", "zero bytes"),
        # What may be the matter is said.
        ("a,b,c\n1,2,3\n1,2\n1,2,3\n", "Empty fields still need their separators"),
        ("a,b,c\n1,2,3\n1,2\n", "Was the file cut off"),
        ("# made by hand\na,b\n1,2\n", "is it the first line of the file"),
        ("a,b\n1,2,\n3,4,\n", "ends in separators that the header lacks"),
        ("a;b\n1,2\n3,4\n", "another separator than the header"),
        ("a,b\n1,2\n3,4,5\n", "Text with separators needs quotes"),
    ],
)
def test_lines_that_say_two_things_are_refused_with_their_numbers(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        parsed(tmp_path, text)


@pytest.mark.parametrize("part", ["start", "middle", "end"])
def test_a_damaged_gzip_is_named(tmp_path, part):
    packed = gzip.compress(("a,b\n" + "1,2\n" * 5000).encode())
    cut = {"start": 0, "middle": 20, "end": len(packed) - 9}[part]
    (tmp_path / "t.csv.gz").write_bytes(packed[:cut] + b"\x1f\x8b\x08\xff\xff" + packed[cut + 5 :])
    with pytest.raises(UserError, match=r"t\.csv\.gz is a damaged gzip file: .* Copy or compress"):
        read_csv(tmp_path / "t.csv.gz")


def test_text_of_several_lines_in_quotes_is_text(tmp_path):
    table = parsed(tmp_path, 'a,b\n1,"two\nlines, it says"\n2,x\n')
    assert table.frame["b"].tolist() == ["two\nlines, it says", "x"]
    assert table.lines.tolist() == [2, 4]


def test_blanks_behind_separators_go_where_the_header_has_them(tmp_path):
    assert parsed(tmp_path, "a, b\n1, 2\n").frame.values.tolist() == [["1", "2"]]
    assert parsed(tmp_path, "a,b\n1, 2\n").frame.values.tolist() == [["1", " 2"]]


def test_doubled_and_nameless_columns_are_told_apart(tmp_path):
    table = parsed(tmp_path, "answer,,answer\n1,2,3\n")
    assert list(table.frame) == ["answer", "Unnamed: 1", "answer.1"]
    assert table.duplicate_names == ("answer",)


def test_excels_first_line_is_no_header(tmp_path):
    table = parsed(tmp_path, "sep=;\na;b\n1;2\n")
    assert (table.header, table.separator, table.lines.tolist()) == (("a", "b"), ";", [3])


@pytest.mark.parametrize("block", [4, 5, 7])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_where_a_block_ends_changes_nothing(tmp_path, monkeypatch, block, encoding, end):
    rows = ["a,b", 'grün,"x\r\ny"', "", '"say ""hi""",None', "日本語,", "1,2"]
    whole = parsed(tmp_path, end.join(rows), encoding)
    monkeypatch.setattr(text_lines, "_BLOCK", block)
    monkeypatch.setattr(csvfile, "_CHUNK_SIZE", 8)
    pieces = parsed(tmp_path, end.join(rows), encoding)
    assert pieces.frame.equals(whole.frame)
    assert pieces.frame.values.tolist()[0] == ["grün", "x\r\ny"]
    assert pieces.lines.tolist() == whole.lines.tolist()


def test_a_csv_is_read_no_further_than_needed(tmp_path, monkeypatch):
    monkeypatch.setattr(text_lines, "_BLOCK", 64)
    path = tmp_path / "t.csv"
    path.write_text("a,b\n" + "1,2\n" * 200 + "3\n" + "1,2\n" * 200 + "\xe9,4,5\n")
    pieces = iter_table(path, rows=100)
    assert [len(next(pieces)), len(next(pieces))] == [100, 100]
    with pytest.raises(UserError, match=r"2 line\(s\) have fewer or more .*line 202 has 1, line 4"):
        next(pieces)


@pytest.mark.parametrize("before", [3, 61, 64])
def test_the_byte_that_is_not_utf8_is_counted_from_the_files_start(tmp_path, monkeypatch, before):
    monkeypatch.setattr(text_lines, "_BLOCK", 64)
    (tmp_path / "t.csv").write_bytes(b"a\n" + b"x" * (before - 2) + b"\xc3(")
    with pytest.raises(UserError, match=f"byte at position {before}: invalid continuation"):
        read_csv(tmp_path / "t.csv")
