"""The split: the study's to the row, groups that never straddle, clusters that don't chain."""

import random

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from abo_vqa.cli import main
from abo_vqa.core.errors import UserError
from abo_vqa.core.tables import read_table, write_table
from abo_vqa.data import splitting
from abo_vqa.data.audit import audit_split, count_near_duplicates, find_leaks
from abo_vqa.data.groups import bundle_groups, connected_rows, group_rows, leader_clusters
from abo_vqa.data.hashes import hash_graph
from abo_vqa.data.similarity_rule import SimilarityRule
from tests.support.splitting import catalogue, chosen, hexed, vqa

FAR = [0x0000000000000000, 0xFFFFFFFF00000000, 0x0F0F0F0F0F0F0F0F, 0xAAAAAAAAAAAAAAAA]


# --- the study's split ---------------------------------------------------------------------------


def study(table):
    groups = [group for _, group in table.groupby("image_path")]
    train, test = train_test_split(groups, test_size=0.2, random_state=42)
    return pd.concat(train), pd.concat(test)


@pytest.mark.parametrize("n", [2, 5, 41, 300])
def test_by_image_it_is_the_studys_row_for_row_and_in_its_order(tmp_path, n):
    table = vqa([(f"{i:05d}.jpg", "", "", "", "") for i in range(n)])
    table = table[["image_path", "question", "answer"]]
    write_table(table, tmp_path / "vqa.csv")
    out = tmp_path / "out"
    command = ["split", "--vqa", str(tmp_path / "vqa.csv"), "--out", str(out), "--group", "image"]
    assert main(command) == 0
    for side, expected in zip(("train", "test"), study(table), strict=True):
        made = read_table(out / f"{side}.csv")
        assert made[table.columns].to_numpy().tolist() == expected.to_numpy().tolist()
        assert made["row_id"].astype(int).tolist() == expected.index.tolist()


def test_answers_that_look_like_missing_values_stay_what_they_are(tmp_path):
    table = vqa([(f"{i}.jpg", "", "", "", "") for i in range(30)])
    sides = chosen(table, "image")
    for name, side in zip(("train", "test"), splitting.take_sides(table, sides), strict=True):
        write_table(side, tmp_path / f"{name}.csv")
    made = pd.concat([read_table(tmp_path / f"{side}.csv") for side in ("train", "test")])
    assert sorted(made["answer"]) == sorted(table["answer"])
    assert {"None", ""} <= set(made["answer"])


# --- groups --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["image", "product", "near-duplicate"])
@pytest.mark.parametrize("stratify", [True, False])
@pytest.mark.parametrize("test_size", [0.05, 0.2, 0.5])
def test_no_group_straddles_and_no_row_is_lost(kind, stratify, test_size):
    table = vqa(catalogue())
    train, test = chosen(table, kind, test_size, stratify=stratify)
    assert sorted([*train, *test]) == list(range(len(table)))
    assert abs(len(test) / len(table) - test_size) < 0.02
    groups = group_rows(table, kind, SimilarityRule(4))
    assert not set(groups[train]) & set(groups[test])
    shared = ["image_path"] if kind == "image" else ["image_path", "item_id"]
    shared += ["image_sha1"] if kind == "near-duplicate" else []
    for column in shared:
        assert not set(table[column].iloc[train]) & set(table[column].iloc[test]), column


def test_the_same_seed_gives_the_same_split_and_another_another():
    table = vqa(catalogue())
    first, second, other = (chosen(table, "near-duplicate", seed=s) for s in (1, 1, 2))
    assert np.array_equal(first[1], second[1])
    assert not np.array_equal(first[1], other[1])


def test_product_types_keep_their_shares():
    table = vqa(catalogue(400))
    _, test = chosen(table, "near-duplicate")
    whole = table["product_type"].value_counts(normalize=True)
    part = table["product_type"].iloc[test].value_counts(normalize=True)
    assert (whole - part).abs().max() < 0.02


def test_a_group_larger_than_the_test_set_stays_in_train():
    big = [(f"{i:03d}.jpg", "same product", "A", "", "") for i in range(60)]
    small = [(f"x{i:03d}.jpg", f"B{i}", "A", "", "") for i in range(40)]
    table = vqa([*big, *small])
    train, test = chosen(table, "product")
    assert "same product" in set(table["item_id"].iloc[train])
    assert "same product" not in set(table["item_id"].iloc[test])
    assert len(test) > 0


def test_near_duplicates_do_not_chain():
    # Each picture differs from the next by 3 bits: single linkage would make one group of 20.
    chain = [(1 << (3 * i)) - 1 for i in range(20)]
    table = vqa([(f"{i:02d}.jpg", f"B{i}", "A", f"s{i}", hexed(b)) for i, b in enumerate(chain)], 1)
    table["cluster"] = group_rows(table, "near-duplicate", SimilarityRule(4))
    sizes = table["cluster"].value_counts()
    assert sizes.max() == 3  # a centre and one neighbour on each side
    for _, rows in table.groupby("cluster"):
        bits = [int(h, 16) for h in rows["phash"]]
        assert any(all((a ^ b).bit_count() <= 4 for b in bits) for a in bits)


def test_a_short_chain_stays_on_one_side_and_a_long_one_is_cut_seldom():
    def chain(start, n):
        return [start ^ ((1 << 3 * i) - 1) for i in range(n)]

    others = [random.Random(i).getrandbits(64) for i in range(600)]
    bits = [*chain(FAR[2], 12), *others]
    table = vqa([(f"{i:04d}.jpg", f"B{i}", "A", f"s{i}", hexed(b)) for i, b in enumerate(bits)], 1)
    for seed in range(5):
        train, test = chosen(table, "near-duplicate", seed=seed)
        assert count_near_duplicates(table.iloc[train], table.iloc[test], SimilarityRule(4)) == 0
    groups = group_rows(table, "near-duplicate", SimilarityRule(4))
    small = bundle_groups(groups, SimilarityRule(4).graph(table), limit=6)
    assert np.bincount(small).max() <= 6
    assert pd.Series(small).groupby(groups).nunique().max() == 1  # bundles are whole groups
    assert len(set(small[table["image_path"] < "0012"])) <= 4


def test_identical_pictures_and_products_go_together_at_any_distance():
    pictures = [
        ("a.jpg", "P1", "A", "s1", hexed(FAR[0])),
        ("b.jpg", "P1", "A", "s2", hexed(FAR[1])),  # same product, other picture
        ("c.jpg", "P2", "A", "s2", hexed(FAR[1])),  # same bytes, other product
        ("d.jpg", "P3", "A", "s3", hexed(FAR[1] ^ 1)),  # looks like b and c
        ("e.jpg", "P4", "A", "s4", hexed(FAR[2])),
        ("f.jpg", "", "A", "", ""),  # nothing known: alone
        ("g.jpg", "", "A", "", ""),
    ]
    table = vqa(pictures, 2)
    groups = dict(
        zip(
            table["image_path"], group_rows(table, "near-duplicate", SimilarityRule(4)), strict=True
        )
    )
    names = {frozenset(p for p in groups if groups[p] == g) for g in groups.values()}
    assert names == {frozenset(s) for s in (("a.jpg", "b.jpg", "c.jpg", "d.jpg"),)} | {
        frozenset([p]) for p in ("e.jpg", "f.jpg", "g.jpg")
    }
    alone = dict(
        zip(
            table["image_path"], group_rows(table, "near-duplicate", SimilarityRule(0)), strict=True
        )
    )
    assert alone["d.jpg"] != alone["b.jpg"]
    assert alone["a.jpg"] == alone["b.jpg"] == alone["c.jpg"]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 255), min_size=1, max_size=40),
    st.lists(st.integers(0, 9), min_size=40, max_size=40),
    st.integers(0, 3),
)
def test_clusters_by_definition(bits, owners, distance):
    """Each unit is close to its cluster's centre, and centres are far from each other."""
    units = pd.factorize(np.array(owners[: len(bits)]))[0]
    hashes = pd.Series([hexed(0xFF00 | b) for b in bits], dtype=object)  # none without content
    cluster = leader_clusters(units, hash_graph(hashes, distance))

    def close(u, v):
        return any(
            (a ^ b).bit_count() <= distance
            for a, i in zip(bits, units, strict=True) if i == u
            for b, j in zip(bits, units, strict=True) if j == v
        )  # fmt: skip

    centres = sorted(set(cluster))
    assert all(cluster[c] == c for c in centres)
    assert all(close(u, c) for u, c in enumerate(cluster))
    assert not any(close(a, b) for a in centres for b in centres if a < b)


def test_connected_rows_follow_shared_values_and_ignore_unknown_ones():
    columns = [np.array([0, 1, 2, 3, -1, -1]), np.array([5, -1, 5, 1, 1, -1])]
    assert connected_rows(columns).tolist() == [0, 1, 0, 2, 2, 3]


def test_ten_thousand_pictures_that_look_the_same_are_one_group():
    n = 10_000
    table = pd.DataFrame(
        {
            "image_path": [f"{i}.jpg" for i in range(n)],
            "item_id": "",
            "image_sha1": [f"s{i}" for i in range(n)],
            "phash": [hexed(0xFF00 ^ (1 << (i % 3))) for i in range(n)],
        }
    )
    assert set(group_rows(table, "near-duplicate", SimilarityRule(4))) == {0}


# --- look-alikes: order of rows, what is left over -----------------------------------------------


def partition(groups, names):
    return {frozenset(names[groups == g]) for g in set(groups.tolist())}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 63), min_size=2, max_size=30), st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_no_group_and_no_side(bits, rng):
    """Many hashes of six bits: nearly every cluster has a rival of the same density."""
    pictures = [
        (f"{i:02d}.jpg", f"B{i % 17}", "AB"[i % 2], "", hexed(b)) for i, b in enumerate(bits)
    ]
    table = vqa(pictures, 1)
    order = list(range(len(table)))
    rng.shuffle(order)
    other = table.iloc[order].reset_index(drop=True)
    names, others = table["image_path"].to_numpy(), other["image_path"].to_numpy()
    groups, again = (group_rows(t, "near-duplicate", SimilarityRule(1)) for t in (table, other))
    assert partition(groups, names) == partition(again, others)
    if len(set(groups.tolist())) > 1:
        first, second = (chosen(t, "near-duplicate", distance=1)[1] for t in (table, other))
        assert set(names[first]) == set(others[second])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 255), min_size=5, max_size=60), st.integers(0, 5))
def test_the_audit_never_refuses_a_split_by_near_duplicates(bits, seed):
    pictures = [(f"{i:02d}.jpg", "", "A", "", hexed(b)) for i, b in enumerate(bits)]
    table = vqa(pictures, 1, seed)
    if len(set(group_rows(table, "near-duplicate", SimilarityRule(2)).tolist())) == 1:
        return
    train, test = (table.iloc[rows] for rows in chosen(table, "near-duplicate", distance=2))
    assert (
        find_leaks(audit_split(train, test, "near-duplicate", SimilarityRule(2)), "near-duplicate")
        == {}
    )


def cloud(n, seed):
    """A chain of look-alikes without end, as phone cases on white make, and pictures alone."""
    rng = random.Random(seed)
    bits = [0]
    for _ in range(n):
        bits.append(rng.choice(bits[-40:]) ^ (1 << rng.randrange(64)) ^ (1 << rng.randrange(64)))
    return bits + [rng.getrandbits(64) for _ in range(n)]


@pytest.mark.parametrize("seed", range(3))
def test_few_pictures_of_test_look_like_one_of_train_and_types_keep_their_shares(seed):
    bits = cloud(1000, seed)
    types = ["case"] * 1001 + ["lamp"] * 1000  # all of the cloud is one type: it must be cut
    rows = zip(bits, types, strict=True)
    table = vqa([(f"{i:04d}.jpg", "", t, "", hexed(b)) for i, (b, t) in enumerate(rows)], 1)
    train, test = (table.iloc[rows] for rows in chosen(table, "near-duplicate", seed=seed))
    found = audit_split(train, test, "near-duplicate", SimilarityRule(4))
    assert abs(len(test) / len(table) - 0.2) < 0.01
    assert found["types"]["largest_difference"] < 0.02
    assert found["near_duplicates"]["share"] < 0.04  # 0.12 to 0.16 if pieces are dealt at random
    _, test = chosen(table, "near-duplicate", stratify=False)  # nothing asks for a cut
    train = np.setdiff1d(np.arange(len(table)), test)
    assert count_near_duplicates(table.iloc[train], table.iloc[test], SimilarityRule(4)) == 0


def test_a_group_of_most_rows_leaves_the_asked_share_where_the_others_suffice():
    big = [(f"{i:03d}.jpg", "same product", "A", "", "") for i in range(60)]
    small = [(f"x{i:03d}.jpg", f"B{i}", "A", "", "") for i in range(40)]
    table = vqa([*big, *small])
    assert len(chosen(table, "product")[1]) == 0.2 * len(table)


@pytest.mark.parametrize(
    "value", ["0x00000000000000", " 0000000000000ff", "1_000_000_000_00", "g" * 16]
)
def test_a_hash_is_16_hex_digits_and_nothing_that_python_reads_as_one(value):
    table = vqa([("a.jpg", "", "A", "", value), ("b.jpg", "", "A", "", "")], 1)
    with pytest.raises(UserError, match="isn't 16 hex digits"):
        group_rows(table, "near-duplicate", SimilarityRule(4))


@pytest.fixture(scope="module")
def real_hashes(real):
    table = read_table(real / "hashes.csv")
    return table.assign(question="What is it?", answer="it", item_id="")


@pytest.mark.parametrize(("n", "seed"), [(1000, 0), (1000, 1), (5000, 0), (14_798, 0), (14_798, 1)])
def test_a_default_split_of_real_pictures_succeeds_and_keeps_look_alikes_together(
    real_hashes, n, seed
):
    table = real_hashes.sample(n, random_state=seed).reset_index(drop=True)
    train, test = (table.iloc[rows] for rows in chosen(table, "near-duplicate"))
    found = audit_split(train, test, "near-duplicate", SimilarityRule(4))
    assert find_leaks(found, "near-duplicate") == {}
    assert abs(len(test) / n - 0.2) < 0.01
    assert found["near_duplicates"]["share"] <= 0.01


@pytest.mark.parametrize("seed", range(3))
def test_real_product_types_keep_their_shares_without_parting_look_alikes(real, tmp_path, seed):
    balanced = tmp_path / "balanced.csv"
    assert main(["curate", "--raw", str(real), "--out", str(balanced)]) == 0
    files = ["--vqa", str(real / "vqa.csv"), "--balanced", str(balanced), "--images", str(real)]
    assert main(["split", *files, "--out", str(tmp_path), "--seed", str(seed)]) == 0
    train, test = (read_table(tmp_path / f"{side}.csv") for side in ("train", "test"))
    found = audit_split(train, test, "near-duplicate", SimilarityRule(4))
    assert abs(len(test) / 20_000 - 0.2) < 0.01
    assert found["unchecked"]["near_duplicate_groups"] == 0
    assert found["types"]["largest_difference"] < 0.02
    assert found["near_duplicates"]["share"] <= 0.01
