"""The audit finds every kind of planted leak, in our splits and in anybody's."""

import io
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from abo_vqa.cli import main
from abo_vqa.core.errors import UserError
from abo_vqa.core.tables import write_table
from abo_vqa.data import audit as audit_module
from abo_vqa.data.audit import (
    audit_split,
    find_leaks,
    text_overlap,
)
from abo_vqa.data.audit_text import describe_audit
from abo_vqa.data.groups import group_rows, strictest_group
from abo_vqa.data.hashes import without_content
from abo_vqa.data.image_decoding import phash
from abo_vqa.data.similarity_rule import SimilarityRule
from tests.support import ROOT
from tests.support.splitting import catalogue, chosen, hexed, vqa


@pytest.fixture
def sides():
    """A clean split of a catalogue, and one picture from each side."""
    table = vqa(catalogue())
    train, test = (
        table.iloc[rows].reset_index(drop=True) for rows in chosen(table, "near-duplicate")
    )
    return train, test


def found(train, test, kind="near-duplicate"):
    return audit_split(train, test, kind, SimilarityRule(4))


def plant(train, test, **changes):
    """Change one picture of test so that it shares something with one of train."""
    old = test["image_path"].iloc[0]
    rows = test["image_path"] == old
    return test.assign(**{name: test[name].where(~rows, value) for name, value in changes.items()})


def test_a_clean_split_has_no_leaks(sides):
    result = found(*sides)
    assert set(result["shared"].values()) == {0}
    assert find_leaks(result, "near-duplicate") == {}
    json.dumps(result, allow_nan=False)


def test_each_kind_of_planted_leak_is_found(sides):
    train, test = sides
    victim = train.iloc[0]
    near = hexed(int(victim["phash"], 16) ^ 0b1010)
    for changes, name in (
        ({"image_path": victim["image_path"]}, "images"),
        ({"item_id": victim["item_id"]}, "products"),
        ({"image_sha1": victim["image_sha1"]}, "identical_pictures"),
        ({"phash": near}, "near_duplicate_groups"),
    ):
        result = found(train, plant(train, test, **changes))
        assert result["shared"][name] == 1, name
        assert find_leaks(result, "near-duplicate")[name] == 1
    assert result["near_duplicates"]["test_images"] >= 1


@pytest.mark.parametrize(
    ("column", "kind", "fails"),
    [
        ("image_path", "image", True),
        ("item_id", "image", False),
        ("item_id", "product", True),
        ("image_sha1", "product", False),
        ("image_sha1", "near-duplicate", True),
        ("phash", "product", False),
        ("phash", "near-duplicate", True),
    ],
)
def test_the_command_fails_on_what_the_kind_of_group_forbids(
    sides, tmp_path, capsys, column, kind, fails
):
    train, test = sides
    write_table(train, tmp_path / "train.csv")
    write_table(plant(train, test, **{column: train[column].iloc[0]}), tmp_path / "test.csv")
    command = [
        "audit",
        "--train",
        str(tmp_path / "train.csv"),
        "--test",
        str(tmp_path / "test.csv"),
    ]
    assert main([*command, "--group", kind]) == (2 if fails else 0)
    said = capsys.readouterr()
    assert ("train and test share 1" in said.err) == fails
    assert "shared images" in said.out


def test_the_stage_fails_when_a_group_straddles(sides, tmp_path, monkeypatch):
    from abo_vqa.core.config import load_config
    from abo_vqa.core.errors import UserError
    from abo_vqa.stages import split as split_module

    config = load_config(ROOT / "params.yaml")
    monkeypatch.chdir(tmp_path)
    table = vqa(catalogue())
    write_table(table, "data/vqa.csv")
    rows = list(range(len(table)))
    monkeypatch.setattr(split_module, "split_rows", lambda *_, **__: (rows[:300], rows[300:]))
    with pytest.raises(UserError, match=r"train and test share [\d,]+ images"):
        split_module.run(config)
    assert (tmp_path / "data" / "audit.json").exists()  # to look at


def test_a_plain_table_is_audited_as_far_as_its_columns_go(sides, tmp_path, capsys):
    train, test = (side[["image_path", "question", "answer"]] for side in sides)
    assert strictest_group(train.columns) == "image"
    write_table(train, tmp_path / "train.csv")
    write_table(test, tmp_path / "test.csv")
    command = [
        "audit",
        "--train",
        str(tmp_path / "train.csv"),
        "--test",
        str(tmp_path / "test.csv"),
    ]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "shared images                  0" in said
    assert said.count("not checked: the column isn't there") == 3
    write_table(pd.concat([test, train.head(1)]), tmp_path / "test.csv")
    assert main(command) == 2


def test_look_alikes_are_counted_even_between_clusters():
    pictures = [(f"{i}.jpg", f"B{i}", "A", f"s{i}", hexed((1 << (3 * i)) - 1)) for i in range(4)]
    table = vqa(pictures, 1)
    left = table["image_path"].isin(["0.jpg", "1.jpg"])
    result = found(table[left], table[~left])
    assert result["near_duplicates"] == {"test_images": 1, "share": 0.5}  # 2.jpg looks like 1.jpg


def test_questions_and_answers_seen_in_training_are_measured():
    columns = ["image_path", "question", "answer"]
    train = pd.DataFrame([("a", "What color?", "red"), ("b", "How many?", "2")], columns=columns)
    test = pd.DataFrame(
        [("c", "what color? ", "Red"), ("d", "What color?", "blue"), ("e", "Why?", "2")],
        columns=columns,
    )
    assert audit_module.text_overlap(train, test) == {"questions": 0.666667, "pairs": 0.333333}


def test_empty_values_are_shared_by_nobody():
    pictures = [("a.jpg", "", "A", "", ""), ("b.jpg", "", "A", "", "")]
    table = vqa(pictures, 2)
    left = table["image_path"] == "a.jpg"
    assert set(found(table[left], table[~left])["shared"].values()) == {0}


@pytest.mark.parametrize("prefix", ["images/small/", "/kaggle/input/abo/small/", "small\\"])
def test_the_same_pictures_in_another_spelling_are_shared(sides, prefix):
    train, _ = sides
    other = train.assign(image_path=[prefix + path for path in train["image_path"]])
    assert found(train, other)["shared"]["images"] == train["image_path"].nunique()


def test_pictures_that_could_not_be_checked_are_counted(sides):
    train, test = (table.assign(phash="", image_sha1="") for table in sides)
    report = found(train, test)
    pictures = len(set(train["image_path"]) | set(test["image_path"]))
    assert report["unchecked"]["near_duplicate_groups"] == pictures
    assert report["unchecked"]["products"] == 0
    assert f"(not checked for {pictures:,} images)" in describe_audit(report, "near-duplicate")


def test_a_column_of_one_side_alone_compares_nothing(sides):
    train, test = (table.drop(columns="item_id") for table in sides)
    with pytest.raises(UserError, match=r"need the column\(s\) phash"):
        found(train, test.drop(columns="phash"))
    assert "near_duplicates" not in found(train, test.drop(columns="phash"), "image")


def test_rows_without_a_question_overlap_with_none():
    train = pd.DataFrame({"question": ["", "a?", "b?"], "answer": ["red", "x", "y"]})
    test = pd.DataFrame({"question": ["", " ", "a?", "c?"], "answer": ["red", "red", "x", "y"]})
    assert text_overlap(train, test) == {"questions": 0.5, "pairs": 0.5}


def plain_jpeg(color):
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), color).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def test_plain_images_are_no_near_duplicates_of_each_other():
    """Their hashes are the same, and say nothing."""
    hashes = [phash(plain_jpeg(color), "a.jpg") for color in ("red", "green", "blue", "white")]
    assert without_content(pd.Series([*hashes, ""])).tolist() == [True, True, True, True, False]
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "JPEG")
    shown = phash(buffer.getvalue(), "a.jpg")
    assert not without_content(pd.Series([shown])).any()
    every = [*hashes, shown, shown]
    table = vqa([(f"{i}.jpg", f"item{i}", "", f"{i:040x}", h) for i, h in enumerate(every)])
    groups = group_rows(table, "near-duplicate", SimilarityRule(4))
    assert len(set(groups)) == 5  # the two equal images with content are one
    first, second = table[table["image_path"] < "2.jpg"], table[table["image_path"] >= "2.jpg"]
    report = audit_split(first, second, "near-duplicate", SimilarityRule(4))
    assert report["shared"]["near_duplicate_groups"] == 0
    assert report["near_duplicates"]["test_images"] == 0
    assert report["hashes_without_content"] == 4
    assert "the hashes of 4 images have no content" in describe_audit(report, "near-duplicate")
    assert "have no perceptual hash" not in describe_audit(report, "near-duplicate")
