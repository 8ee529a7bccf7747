"""Groups by variant: one product in other colours and other marketplaces."""

import numpy as np
import pandas as pd
import pytest

from abo_vqa.cli import main
from abo_vqa.core.errors import UserError
from abo_vqa.core.tables import read_table, write_table
from abo_vqa.data.audit import audit_split, find_leaks
from abo_vqa.data.groups import group_rows, strictest_group
from abo_vqa.data.image_vectors import ImageVectors
from abo_vqa.data.similarity_rule import SimilarityRule
from abo_vqa.data.variants import add_names, name_without_color
from tests.support.splitting import hexed

RULE = SimilarityRule(4)
LAMP = 0x0F0F0F0F0F0F0F0F
# path, item, type, name, colour, hash
PRODUCTS = [
    ("a.jpg", "B1", "LAMP", "Rivet Desk Lamp, Brass", "Brass", LAMP),
    ("b.jpg", "B2", "LAMP", "Rivet Desk Lamp - Matte Black", "Matte Black", LAMP ^ 0x3F),  # 6 bits
    ("c.jpg", "B3", "LAMP", "rivet desk lamp", "", LAMP ^ 0xFF00),  # another marketplace: 8 bits
    (
        "d.jpg",
        "B4",
        "LAMP",
        "Rivet Desk Lamp, Red",
        "Red",
        LAMP ^ 0x1FF << 48,
    ),  # 9 bits: another lamp
    ("e.jpg", "B5", "CHAIR", "Rivet Desk Lamp", "", LAMP ^ 0x3F << 16),  # of another type
    ("f.jpg", "B6", "LAMP", "Stone Floor Lamp", "", LAMP ^ 0x3F << 22),  # of another name
    ("g.jpg", "B7", "LAMP", "", "", LAMP ^ 0x3F << 28),  # of no name
    ("h.jpg", "B8", "LAMP", "", "", LAMP ^ 0x3F << 34),
]


def questions(products=PRODUCTS, count=2):
    columns = ["image_path", "item_id", "product_type", "name", "color", "phash"]
    table = pd.DataFrame([(*row[:5], hexed(row[5])) for row in products], columns=columns)
    table = table.loc[table.index.repeat(count)].reset_index(drop=True)
    return table.assign(question=[f"{i % count}?" for i in range(len(table))], answer="red")


def partition(table, groups):
    names = table["image_path"].str[0]
    return {"".join(sorted(set(names[groups == group]))) for group in set(groups)}


@pytest.mark.parametrize(
    ("name", "color", "expected"),
    [
        ("Rivet Desk Lamp, Matte Black", "Matte Black", "rivet desk lamp"),
        ("Rivet Desk Lamp (black)", "BLACK", "rivet desk lamp"),
        ("Blackout curtain, black", "Black", "blackout curtain"),  # whole words
        ("Red", "Red", ""),
        ("Lámpara roja", "", "lámpara roja"),
    ],
)
def test_a_name_without_its_color(name, color, expected):
    assert name_without_color(name, color) == expected


def test_name_and_image_together_make_a_variant():
    table = questions()
    groups = group_rows(table, "variant", RULE)
    # No two are within 4 bits. b and c, 14 bits apart, are both within 8 of a.
    assert partition(table, groups) == {"abc", "d", "e", "f", "g", "h"}
    by_likeness = group_rows(table, "near-duplicate", RULE)
    assert partition(table, by_likeness) == set("abcdefgh")


def test_variants_are_found_by_vectors_too():
    """Twice the angle: 30 degrees instead of 15."""
    products = [(*row[:5], 1 << 8 * i | 1 << (8 * i + 1)) for i, row in enumerate(PRODUCTS[:4])]
    angles = np.radians([0, 29, 60, 91])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    known = ImageVectors.of(["a.jpg", "b.jpg", "c.jpg", "d.jpg"], vectors)
    rule = SimilarityRule(0, ((known, float(np.cos(np.radians(15)))),))
    table = questions(products)
    assert partition(table, group_rows(table, "near-duplicate", rule)) == set("abcd")
    assert partition(table, group_rows(table, "variant", rule)) == {"ab", "c", "d"}


def test_the_order_of_rows_and_other_products_change_no_group():
    table = questions()
    other = table.sample(frac=1, random_state=1).reset_index(drop=True)
    assert partition(other, group_rows(other, "variant", RULE)) == {"abc", "d", "e", "f", "g", "h"}


def test_the_audit_counts_shared_variants_only_if_asked():
    table = questions()
    train, test = table[table["image_path"] != "b.jpg"], table[table["image_path"] == "b.jpg"]
    assert strictest_group(table.columns) == "near-duplicate"
    assert find_leaks(audit_split(train, test, "near-duplicate", RULE), "near-duplicate") == {}
    report = audit_split(train, test, "variant", RULE)
    assert find_leaks(report, "variant") == {"variant_groups": 1}


def many(count=60):
    """Products in three colours each, 6 bits from the first, and nothing else that is alike."""
    rng = np.random.RandomState(0)
    rows = []
    for i in range(count):
        bits = int.from_bytes(rng.bytes(8), "big")
        rows += [
            (
                f"{i:02d}{c[0]}.jpg",
                f"B{i}{c}",
                "LAMP",
                f"Lamp no{i}, {c}",
                c,
                bits ^ (0, 0x3F, 0x3F << 9)[k],
            )
            for k, c in enumerate(("Red", "Blue", "Green"))
        ]
    return questions(rows)


def test_split_by_variant_reads_names_from_the_balanced_table(tmp_path, capsys):
    table = many()
    write_table(table.drop(columns=["name", "color"]), tmp_path / "vqa.csv")
    balanced = table[["image_path", "item_id", "name", "color"]].drop_duplicates()
    write_table(balanced, tmp_path / "balanced.csv")
    command = ["split", "--vqa", str(tmp_path / "vqa.csv"), "--out", str(tmp_path)]
    assert main([*command, "--group", "variant"]) == 2
    assert "groups by variant need the column(s) name" in capsys.readouterr().err
    options = ["--group", "variant", "--balanced", str(tmp_path / "balanced.csv")]
    assert main([*command, *options]) == 0
    products = [
        {path[:2] for path in read_table(tmp_path / f"{side}.csv")["image_path"]}
        for side in ("train", "test")
    ]
    assert len(products[1]) == 12
    assert not products[0] & products[1]
    sides = [f"--{side}={tmp_path / side}.csv" for side in ("train", "test")]
    assert main(["audit", *sides, *options]) == 0
    assert main([*command, "--balanced", str(tmp_path / "balanced.csv")]) == 0
    assert "name" not in read_table(tmp_path / "train.csv")


def test_names_of_other_images_are_refused(tmp_path):
    write_table(questions(), tmp_path / "balanced.csv")
    table = questions().drop(columns=["name", "color"])
    assert add_names(table, tmp_path / "balanced.csv")["name"].tolist()[0] == PRODUCTS[0][3]
    other = table.assign(image_path="other/" + table["image_path"])
    with pytest.raises(UserError, match="has none of the images"):
        add_names(other, tmp_path / "balanced.csv")
