from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from abo_vqa.core.config import load_config
from abo_vqa.core.errors import UserError
from abo_vqa.stages.generate import run
from tests.support.annotation import configure, make, vqa, write_params

ANSWERED = ("What color is it?", "red")


def write(path: Path, rows: list[tuple[str, ...]], header: str) -> None:
    with path.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(header.split(","))
        writer.writerows(rows)


def test_the_studys_table_is_taken_as_it_is(here: Path) -> None:
    products = make(here, 3)
    paths = [row["image_path"] for row in products]
    given = [
        (paths[1], "What color is it?", "None"),
        (paths[1], "What is it?", ""),
        (paths[0], "How many, then", "three of them"),
        (paths[0], "How many, then", "three of them"),
    ]
    write(here / "mine.csv", given, "image_path,question,answer")
    message = run(configure(here, annotator="file", file="mine.csv")).message
    warned = "warning: 3 rows are kept that would be rejected from another annotator. 2: the "
    assert warned in message
    table = vqa(here)
    assert [(r["image_path"], r["question"], r["answer"]) for r in table] == given
    assert table[0]["item_id"] == products[1]["item_id"]
    assert table[0]["question_kind"] == "color"
    counts = json.loads((here / "data/generate.json").read_text())
    assert counts["pairs"] == 4
    assert counts["rejected"] == {}
    assert counts["kept_in_spite_of"] == {"no_question_mark": 2, "no_answer": 1}
    assert counts["corpus"]["duplicate_pairs"] == 1


def test_a_folder_of_vqav2s_two_files_is_a_table(here: Path) -> None:
    path = make(here, 1)[0]["image_path"]
    asked = {"question_id": 7, "image_id": 1, "image": path, "question": "What color is it?"}
    (here / "mine").mkdir()
    (here / "mine/q.json").write_text(json.dumps({"questions": [asked]}))
    answered = {"question_id": 7, "multiple_choice_answer": "red"}
    (here / "mine/a.json").write_text(json.dumps({"annotations": [answered]}))
    configure(here, annotator="file", file="mine")
    run(load_config())  # which knows that the setting may be a folder
    (row,) = vqa(here)
    assert (row["image_path"], row["question"], row["answer"]) == (path, *ANSWERED)


def test_images_that_are_not_there(here: Path) -> None:
    path = make(here, 1)[0]["image_path"]
    rows = [(path, "What color is it?", "red"), ("ff/none.jpg", "What color is it?", "red")]
    write(here / "mine.csv", rows, "image_path,question,answer")
    run(configure(here, annotator="file", file="mine.csv"))
    assert [row["image_path"] for row in vqa(here)] == [path]
    counts = json.loads((here / "data/generate.json").read_text())
    assert counts["dropped_images"] == {"not in the archive": 1}
    assert (counts["images"], counts["annotated_images"]) == (2, 1)
    write(here / "mine.csv", rows[1:], "image_path,question,answer")
    with pytest.raises(UserError, match="none of the 1 images was found"):
        run(configure(here, annotator="file", file="mine.csv"))


def test_wrong_tables(here: Path) -> None:
    make(here, 1)
    write(here / "mine.csv", [("a", "b")], "image,question")
    with pytest.raises(UserError, match=r"lacks the column.*Rename it in the file\.$"):
        run(configure(here, annotator="file", file="mine.csv"))
    write(here / "mine.csv", [], "image_path,question,answer")
    with pytest.raises(UserError, match="no rows"):
        run(configure(here, annotator="file", file="mine.csv"))
    write_params(here, annotator="file")
    with pytest.raises(UserError, match=r"generate.file names no table"):
        load_config()


@pytest.mark.parametrize("prefix", ["images/small/", "/data/abo/small/", ""])
def test_images_by_any_spelling_are_hashed_where_the_balanced_table_lacks_them(
    here: Path, prefix: str
) -> None:
    products = make(here, 3)
    balanced = here / "data/balanced.csv"
    with balanced.open(newline="") as source:
        rows = list(csv.reader(source))
    with balanced.open("w", newline="") as out:
        csv.writer(out).writerows(rows[:-1])
    paths = [product["image_path"] for product in products]
    given = [(prefix + path, "What color is it?", "red") for path in paths]
    write(here / "mine.csv", given, "img_path,Query,gt_answer")
    summary = run(configure(here, annotator="file", file="mine.csv"))
    table = vqa(here)
    assert [row["image_path"] for row in table] == paths
    assert all(len(row["image_sha1"]) == 40 and len(row["phash"]) == 16 for row in table)
    assert "3 of 3 images found" in summary.message
    assert "answer ← 'gt_answer'" in summary.message
