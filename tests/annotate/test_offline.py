from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from abo_vqa.annotate.offline import (
    COLORS,
    OfflineAnnotator,
    facts_of,
    last_known_word,
    noun_of,
    plural_of,
)
from abo_vqa.core.errors import UserError
from abo_vqa.data.normalise import normalise
from abo_vqa.stages.generate import run
from tests.support.annotation import configure, make, products, vqa, write_balanced


@pytest.mark.parametrize(
    ("product_type", "noun", "answer"),
    [
        ("CELLULAR_PHONE_CASE", "phone case", "case"),
        ("SHOES", "shoe", "shoe"),
        ("GLASS", "glass", "glass"),
        ("HOME_BED_AND_BATH", "bed bath", "bath"),
        ("chair", "chair", "chair"),
        ("ABIS_PRODUCT", "abis product", ""),
    ],
)
def test_words_for_product_types(product_type: str, noun: str, answer: str) -> None:
    assert noun_of(product_type) == noun
    product = {"name": "x", "color": "", "product_type": product_type}
    assert facts_of(product).get("type", "") == answer


def test_words() -> None:
    assert last_known_word("royal blue", COLORS) == "blue"
    assert last_known_word("Charcoal Grey", COLORS) == "gray"
    assert last_known_word("tartan", COLORS) == ""
    plurals = [plural_of(n) for n in ("shelf", "watch", "glass", "berry", "toy", "lamp")]
    assert plurals == ["shelves", "watches", "glasses", "berries", "toys", "lamps"]


@pytest.mark.parametrize(
    ("name", "count"),
    [("mug, set of 3", "3"), ("4-pack red mug", "4"), ("mug", "1"), ("pack of 12", "")],
)
def test_number_of_items(name: str, count: str) -> None:
    product = {"name": name, "color": "red", "product_type": "mug"}
    assert facts_of(product).get("counting", "") == count


def test_three_distinct_pairs_an_image(here: Path) -> None:
    rows = make(here, 120)
    run(configure(here, annotator="offline"))
    table = vqa(here)
    assert Counter(row["image_path"] for row in table) == {row["image_path"]: 3 for row in rows}
    assert len({(row["image_path"], normalise(row["question"])) for row in table}) == 360
    assert all(len(normalise(row["answer"]).split()) == 1 for row in table)
    for row in table:
        if row["question_kind"] != "yes/no":
            assert row["answer"] not in normalise(row["question"]).split()
    answers = Counter(r["answer"] for r in table if r["question_kind"] == "yes/no")
    assert abs(answers["yes"] - answers["no"]) <= 1
    kinds = Counter(row["question_kind"] for row in table)
    assert min(kinds.values()) > 360 / 6 * 0.6
    counts = json.loads((here / "data/generate.json").read_text())
    assert counts["images"] == counts["annotated_images"] == 120
    assert counts["pairs"] == 360
    assert counts["corpus"]["duplicate_pairs"] == 0


def test_a_balanced_table_that_says_path_is_read(here: Path) -> None:
    """As the study's does, and this project's until 0.2."""
    make(here, 12)
    run(configure(here, annotator="offline"))
    table = vqa(here)
    balanced = here / "data/balanced.csv"
    names, rows = balanced.read_text().split("\n", 1)
    balanced.write_text(names.replace("image_path", "path") + "\n" + rows)
    run(configure(here, annotator="offline"))
    assert vqa(here) == table != []


def test_every_answer_is_true(here: Path) -> None:
    rows = {row["image_path"]: row for row in make(here, 60)}
    run(configure(here, annotator="offline"))
    for row in vqa(here):
        facts = facts_of(rows[row["image_path"]])
        if row["question_kind"] != "yes/no":
            assert row["answer"] == facts[row["question_kind"]]
            continue
        said = set(normalise(row["question"]).split())
        noun = noun_of(rows[row["image_path"]]["product_type"])
        if "type" in facts and row["question"].startswith(("Is this a", "Is there a")):
            assert (row["answer"] == "yes") == (noun in row["question"])
        else:
            true = {normalise(v) for kind, v in facts.items() if kind != "type"}
            assert (row["answer"] == "yes") == bool(said & true)


def test_same_seed_same_bytes_and_an_image_keeps_its_draw(here: Path) -> None:
    make(here, 30)
    run(configure(here, annotator="offline"))
    first = (here / "data/generated.csv").read_bytes()
    run(configure(here, annotator="offline"))
    assert (here / "data/generated.csv").read_bytes() == first
    annotators = [OfflineAnnotator(products(30), 0.5, seed) for seed in (42, 42, 43)]
    drawn = [[p.kind for p in a.candidates(products(30)[7])] for a in annotators]
    assert drawn[0] == drawn[1] != drawn[2]


def test_unreadable_images_are_counted(here: Path) -> None:
    rows = make(here, 5)
    write_balanced(here, [*rows, rows[0] | {"image_path": "ff/ffffffff.jpg"}])
    run(configure(here, annotator="offline"))
    counts = json.loads((here / "data/generate.json").read_text())
    assert counts["dropped_images"] == {"unreadable": 1}
    assert len(vqa(here)) == 15


def test_a_product_without_facts_is_counted(here: Path) -> None:
    rows = make(here, 5)
    bare = {"product_type": "product", "color": "tartan", "material": "", "pattern": ""}
    write_balanced(here, [*rows[:4], rows[4] | bare | {"name": "pack of 40"}])
    run(configure(here, annotator="offline"))
    counts = json.loads((here / "data/generate.json").read_text())
    assert counts["dropped_images"] == {"too_few_good_pairs": 1}


def test_more_pairs_than_there_are(here: Path) -> None:
    make(here, 3)
    with pytest.raises(UserError, match="none of the 3 images got its 40 pairs"):
        run(configure(here, annotator="offline", questions=40))
