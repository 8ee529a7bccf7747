"""Tables as numbers: what is compared stays the same, and sides are written piece by piece."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abo_vqa.core import tables
from abo_vqa.core.tables import iter_table, read_table, write_table
from abo_vqa.data import splitting
from abo_vqa.data.audit import audit_sides, audit_split
from abo_vqa.data.image_paths import unify_image_paths
from abo_vqa.data.key_columns import compact_table, numbered_texts, sorted_numbers, unify_paths
from abo_vqa.data.similarity_rule import ComparedTable, SimilarityRule
from abo_vqa.data.splitting import split_rows, take_sides, write_sides
from tests.support.splitting import catalogue, vqa

ABO = st.from_regex(r"[0-9a-c]{2}/[0-9a-c_-]{1,3}\.(jpg|png|webp)", fullmatch=True)
ANY = st.from_regex(
    r"(images/)?(small/)?([0-9a-cA-C]{1,2}/)?[abAB]{1,2}( |\.jpg|\.JPG|\"|)", fullmatch=True
)
KINDS = ("image", "product", "near-duplicate")


@pytest.mark.parametrize("paths", [ABO, ANY, ABO | ANY], ids=["ABO's", "others", "both"])
def test_unified_paths_are_those_of_unify_image_paths(paths):
    @settings(max_examples=150, deadline=None)
    @given(st.lists(paths, max_size=12))
    def check(column):
        for dtype in (object, "category"):
            unified = unify_paths(pd.Series(column, dtype=object).astype(dtype))
            assert unified.astype(object).tolist() == unify_image_paths(column)[0]

    check()


def test_a_category_of_unified_paths_is_not_made_again():
    column = pd.Series(["0a/b.jpg", "0c/d.jpg", "0a/b.jpg"], dtype="category")
    assert unify_paths(column) is column


@pytest.mark.parametrize("dtype", [object, "str", "category"])
@settings(max_examples=30, deadline=None)
@given(values=st.lists(st.sampled_from(["", "b", "B", "ä", "None", "é"]), max_size=9))
def test_texts_are_numbered_alike_whatever_holds_them(dtype, values):
    column = pd.Series(values, dtype=object).astype(dtype)
    numbers, texts = numbered_texts(column)
    assert texts[numbers].tolist() == values
    assert texts.tolist() == list(dict.fromkeys(values))
    order = sorted(set(values))
    assert sorted_numbers(column).tolist() == [order.index(value) for value in values]


def test_a_compact_table_keeps_texts_once():
    table = vqa(catalogue(50))
    both = compact_table((table, table[::-1]), ("image_path", "answer"))
    whole = pd.concat([table, table[::-1]], ignore_index=True)
    for name in both:
        assert both[name].astype(object).tolist() == whole[name].tolist()
        assert len(both[name].cat.categories) == table[name].nunique()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [object, "str"])
def test_a_compared_table_has_the_split_and_the_audit_of_the_plain_one(kind, dtype):
    table = vqa(catalogue()).astype(dtype)
    rule = SimilarityRule(4)
    compared = ComparedTable.of([table], rule, ("question", "answer"))
    plain, sides = (
        split_rows(given_table, kind, 0.2, 1, rule=rule, stratify=True)
        for given_table in (table, compared)
    )
    assert [rows.tolist() for rows in plain] == [rows.tolist() for rows in sides]
    train, test = (table.iloc[rows] for rows in sides)
    assert audit_sides(compared, sides, kind) == audit_split(train, test, kind, rule)


def test_images_are_compared_once_for_split_and_audit(monkeypatch):
    compared_tables = []
    graph = SimilarityRule.graph
    monkeypatch.setattr(
        SimilarityRule, "graph", lambda *args: compared_tables.append(args) or graph(*args)
    )
    rule = SimilarityRule(4)
    compared = ComparedTable.of([vqa(catalogue())], rule, ("question", "answer"))
    sides = split_rows(compared, "near-duplicate", 0.2, 1, rule=rule, stratify=True)
    audit_sides(compared, sides, "near-duplicate")
    assert len(compared_tables) == 1


def write_plainly(table, sides, folder):
    for name, side in zip(("train", "test"), take_sides(table, sides), strict=True):
        write_table(side, folder / f"{name}.csv")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", ["CSV", "parts"])
@pytest.mark.parametrize("named", [True, False])
def test_sides_written_piece_by_piece_have_the_same_bytes(
    kind, layout, named, tmp_path, monkeypatch
):
    if layout == "parts":
        monkeypatch.setattr(tables, "PARTITION_ROWS", 100)
    monkeypatch.setattr(splitting, "_PIECE", 64)
    monkeypatch.setattr(splitting, "iter_table", lambda path: iter_table(path, rows=97))
    table = vqa(catalogue())
    write_table(table, tmp_path / "vqa.csv")
    sides = split_rows(table, kind, 0.2, 1, rule=SimilarityRule(4), stratify=True)
    added = pd.DataFrame(index=table.index)
    if named:
        added["name"] = [f"name, {i}" for i in table.index]
        added["answer"] = "replaced"
    outputs = [tmp_path / name for name in ("train.csv", "test.csv")]
    write_sides(tmp_path / "vqa.csv", sides, outputs, added)
    whole = table.assign(**{name: added[name] for name in added})
    (tmp_path / "plain").mkdir()
    write_plainly(whole, sides, tmp_path / "plain")
    for path in outputs:
        plain = tmp_path / "plain" / path.name
        if path.is_file():
            assert path.read_bytes() == plain.read_bytes()
        else:
            pd.testing.assert_frame_equal(read_table(path), read_table(plain))


@pytest.mark.parametrize("kind", KINDS)
def test_sides_are_written_in_pieces_of_bounded_size(kind, tmp_path, monkeypatch):
    written = []
    write = tables.TableWriter.write
    monkeypatch.setattr(
        tables.TableWriter,
        "write",
        lambda self, rows: written.append(len(rows)) or write(self, rows),
    )
    monkeypatch.setattr(splitting, "_PIECE", 50)
    monkeypatch.setattr(splitting, "iter_table", lambda path: iter_table(path, rows=50))
    table = vqa(catalogue())
    write_table(table, tmp_path / "vqa.csv")
    sides = split_rows(table, kind, 0.2, 1, rule=SimilarityRule(4), stratify=True)
    outputs = [tmp_path / "train.csv", tmp_path / "test.csv"]
    write_sides(tmp_path / "vqa.csv", sides, outputs, table[[]])
    assert sum(written) == len(table)
    assert max(written) <= 50


def test_a_side_that_has_no_row_of_a_piece_is_written_all_the_same(tmp_path):
    table = vqa(catalogue(30))
    write_table(table, tmp_path / "vqa.csv")
    sides = (np.arange(len(table)), np.arange(0))
    outputs = [tmp_path / "train.csv", tmp_path / "test.csv"]
    write_sides(tmp_path / "vqa.csv", sides, outputs, table[[]])
    assert list(read_table(outputs[1])) == [*table, "row_id"]
    assert len(read_table(outputs[0])) == len(table)
