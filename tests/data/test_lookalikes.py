"""Images are compared by models' vectors too: the pairs, the groups, the commands, bad folders."""

import io
import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from abo_vqa.cli import main
from abo_vqa.core.errors import UserError
from abo_vqa.core.tables import read_table, write_table
from abo_vqa.data import similarity, similarity_rule, vector_search
from abo_vqa.data.audit import audit_split, count_near_duplicates, find_leaks
from abo_vqa.data.groups import group_rows, strictest_group
from abo_vqa.data.hashes import hash_graph
from abo_vqa.data.image_decoding import phash
from abo_vqa.data.image_vectors import ImageVectors, read_image_vectors, vector_graph
from abo_vqa.data.similarity import unite_graphs
from abo_vqa.data.similarity_rule import SimilarityRule
from abo_vqa.data.splitting import split_rows
from tests.support.splitting import catalogue, hexed, vqa

VECTORS = np.array([[1, 0], [2, 0.1], [0, 1], [-1, 0]], dtype=np.float32)


def known_vectors(names, vectors=VECTORS):
    return ImageVectors.of(list(names), np.asarray(vectors, dtype=np.float32), "vectors")


def rule(names, vectors=VECTORS, cosine=0.95, distance=4):
    return SimilarityRule(distance, ((known_vectors(names, vectors), cosine),))


def folder_of(place: Path, names, vectors=VECTORS, **columns) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    np.save(place / "vectors.npy", np.asarray(vectors))
    write_table(pd.DataFrame({"image_path": list(names), **columns}), place / "paths.csv")
    return place


# --- pairs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("tile", [1, 7, 2048])
def test_pairs_are_those_of_all_cosines_whatever_the_tiles(monkeypatch, tile):
    monkeypatch.setattr(vector_search, "_TILE", tile)
    vectors = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)
    vectors[30:] = 3 * vectors[:10]  # of other lengths: the same direction
    names = [f"{i:02d}.jpg" for i in range(40)]
    graph = vector_graph(pd.Series(names), known_vectors(names, vectors), 0.9)
    unit = vectors.astype(np.float64) / np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = unit @ unit.T >= 0.9 - 1e-6
    assert 40 < expected.sum() < 1600
    assert np.array_equal(graph.adjacency.toarray(), expected)


def planted(count, width=64, seed=0):
    """Unit vectors like a model's: a cone, topics in it, and a third near another image."""
    rng = np.random.default_rng(seed)
    scale = 1 / np.sqrt(1 + np.arange(width) / 8)
    centre, topics = rng.standard_normal((2, 1, width)), rng.standard_normal((20, width))
    vectors = 1.2 * centre[0] + topics[rng.integers(0, 20, count)]
    vectors += 0.7 * rng.standard_normal((count, width))
    copies = count // 3
    sources = rng.integers(0, count - copies, copies)
    vectors[-copies:] = vectors[sources] + rng.uniform(
        0.02, 0.5, (copies, 1)
    ) * rng.standard_normal((copies, width))
    vectors *= scale
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def pair_set(pairs):
    """Pairs as a set, of which none may come twice."""
    listed = [pair for i, j in pairs for pair in zip(i.tolist(), j.tolist(), strict=True)]
    ordered = {(min(pair), max(pair)) for pair in listed}
    assert len(ordered) == len(listed)
    return ordered


def last_first(function, parts):
    """As workers might: the parts are done in another order."""
    parts = list(parts)
    return [function(part) for part in reversed(parts)][::-1]


def test_many_images_are_searched_by_pivots(monkeypatch):
    vectors = planted(3000)
    every = pair_set(vector_search.alike_vectors(vectors, 0.95))
    assert len(every) > 500
    monkeypatch.setattr(vector_search, "EXHAUSTIVE", 100)
    monkeypatch.setattr(vector_search, "_DEALT", 500)
    compared = []
    strip = vector_search._compare_strip
    monkeypatch.setattr(
        vector_search, "_compare_strip", lambda *args: compared.append(len(args[0])) or strip(*args)
    )
    chosen = pair_set(vector_search.alike_vectors(vectors, 0.95))
    assert chosen <= every
    assert len(chosen) >= 0.99 * len(every)
    assert sum(n * n for n in compared) < 3000**2 / 4


def test_parts_of_a_search_may_be_done_anywhere(monkeypatch):
    monkeypatch.setattr(vector_search, "_TILE", 64)
    vectors = planted(600)
    every = pair_set(vector_search.alike_vectors(vectors, 0.9))
    assert pair_set(vector_search.alike_vectors(vectors, 0.9, run=last_first)) == every
    monkeypatch.setattr(vector_search, "EXHAUSTIVE", 100)
    near = pair_set(vector_search.alike_vectors(vectors, 0.9))
    assert pair_set(vector_search.alike_vectors(vectors, 0.9, run=last_first)) == near


def test_a_search_that_may_miss_pairs_is_told(monkeypatch):
    names = pd.Series([f"{i}.jpg" for i in range(60)] * 2)
    assert rule(names[:60], np.eye(60)).notes(names) == []
    monkeypatch.setattr(similarity_rule, "EXHAUSTIVE", 59)
    [note] = rule(names[:60], np.eye(60)).notes(names)
    assert "60 images are more than 59" in note


def test_copies_are_alike_even_at_a_cosine_of_one():
    vectors = np.random.default_rng(1).standard_normal((50, 700)).astype(np.float32)
    names = [f"{i}.jpg" for i in range(100)]
    known = known_vectors(names, np.concatenate([vectors, vectors]))
    assert vector_graph(pd.Series(names), known, 1.0).adjacency.nnz == 200


def test_paths_are_matched_however_they_are_written_and_unknown_images_are_alone():
    known = known_vectors(["00/0000000a.jpg", "00/0000000b.jpg", "c.jpg", "d.jpg"])
    table = pd.Series(["images/small/00/0000000A.jpg", "x.jpg", "c.jpg", "00/0000000b.jpg"])
    graph = vector_graph(table, known, 0.95)
    assert graph.nodes[1] == -1
    assert graph.adjacency[graph.nodes[0], graph.nodes[3]] == 1
    assert graph.adjacency[graph.nodes[0], graph.nodes[2]] == 0
    assert "3 of 4 images found" in known.describe_coverage(table.tolist())
    with pytest.raises(UserError, match="none of the 1 images was found in vectors"):
        known.describe_coverage(["x.jpg"])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-1, 30), st.integers(-1, 5)), min_size=1, max_size=25),
)
def test_united_graphs_say_what_any_of_them_says(rows):
    """A hash, or a vector, or both, or neither."""
    hashes = pd.Series(["" if h < 0 else hexed(0xFF00 | h) for h, _ in rows], dtype=object)
    names = [f"{'x' if v < 0 else v}.jpg" for _, v in rows]
    angles = np.arange(6) * 0.25
    known = known_vectors(
        [f"{i}.jpg" for i in range(6)], np.stack([np.cos(angles), np.sin(angles)], 1)
    )
    graphs = [hash_graph(hashes, 1), vector_graph(pd.Series(names), known, np.cos(0.3))]
    both = unite_graphs(graphs)

    def alike(graph, i, j):
        a, b = graph.nodes[i], graph.nodes[j]
        return a >= 0 and b >= 0 and graph.adjacency[a, b] > 0

    for i in range(len(rows)):
        for j in range(len(rows)):
            assert alike(both, i, j) == any(alike(graph, i, j) for graph in graphs)
    assert set(both.adjacency.data) <= {1}


def test_a_threshold_that_groups_everything_is_refused_before_memory_is_full(monkeypatch):
    monkeypatch.setattr(similarity, "_MAX_PAIRS", 1000)
    monkeypatch.setattr(similarity, "_MAX_PAIRS_PER_IMAGE", 0)
    names = [f"{i}.jpg" for i in range(60)]
    same = np.ones((60, 2))
    with pytest.raises(UserError, match=r"at a cosine of 0\.9 more than 1,000 pairs of 60 images"):
        vector_graph(pd.Series(names), known_vectors(names, same), 0.9)
    # Each graph by itself has few pairs: one hash for all, and a vector for each.
    table = pd.DataFrame({"image_path": names, "phash": "00000000000000ff"})
    with pytest.raises(UserError, match="more than 1,000 pairs"):
        rule(names, np.eye(60)).graph(table)


# --- groups --------------------------------------------------------------------------------------


def plain_hash(color):
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), color).save(buffer, "JPEG", quality=90)
    return phash(buffer.getvalue(), "a.jpg")


def test_plain_images_are_told_apart_and_joined_by_their_vectors():
    """Their hashes say nothing, and count for nothing."""
    names = ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    table = vqa([(name, f"item-{name}", "A", name, plain_hash("red")) for name in names], 1)
    groups = dict(
        zip(table["image_path"], group_rows(table, "near-duplicate", rule(names)), strict=True)
    )
    assert groups["a.jpg"] == groups["b.jpg"]
    assert len(set(groups.values())) == 3
    assert len(set(group_rows(table, "near-duplicate", SimilarityRule(4)))) == 4
    train, test = table[table["image_path"] == "a.jpg"], table[table["image_path"] != "a.jpg"]
    report = audit_split(train, test, "near-duplicate", rule(names))
    assert find_leaks(report, "near-duplicate") == {"near_duplicate_groups": 1}
    assert report["near_duplicates"]["test_images"] == 1
    assert "hashes_without_content" not in report  # the vectors were compared
    assert report["unchecked"]["near_duplicate_groups"] == 0
    assert (
        find_leaks(audit_split(train, test, "near-duplicate", SimilarityRule(4)), "near-duplicate")
        == {}
    )


def pairs_by_vector(n=150, seed=0):
    """A catalogue whose images are alike in pairs by their vectors, and by nothing else."""
    bits = [random.Random(i).getrandbits(64) for i in range(n)]
    pictures = [
        (f"{i:03d}.jpg", f"B{i}", "AB"[i % 2], f"s{i}", hexed(b)) for i, b in enumerate(bits)
    ]
    rng = np.random.default_rng(seed)
    directions = rng.standard_normal((n // 2, 16))
    vectors = np.repeat(directions, 2, axis=0) + rng.normal(0, 0.01, (n, 16))
    order = rng.permutation(n)
    return vqa(pictures), known_vectors([f"{i:03d}.jpg" for i in order], vectors)


@pytest.mark.parametrize("seed", range(3))
def test_a_split_keeps_images_with_close_vectors_on_one_side(seed):
    table, known = pairs_by_vector(seed=seed)
    close = SimilarityRule(4, ((known, 0.95),))
    exposed = {}
    for name, chosen in (("hashes", SimilarityRule(4)), ("vectors", close)):
        sides = split_rows(table, "near-duplicate", 0.2, seed, rule=chosen, stratify=True)
        train, test = (table.iloc[rows] for rows in sides)
        exposed[name] = count_near_duplicates(train, test, close)
        assert abs(len(test) / len(table) - 0.2) < 0.02
    assert exposed["vectors"] == 0
    assert exposed["hashes"] > 10
    assert find_leaks(audit_split(train, test, "near-duplicate", close), "near-duplicate") == {}


def test_the_order_of_rows_changes_neither_groups_nor_sides():
    table, known = pairs_by_vector()
    close = SimilarityRule(4, ((known, 0.2),))  # many are alike, and clusters have rivals
    other = table.sample(frac=1, random_state=3).reset_index(drop=True)
    results = []
    for rows in (table, other):
        groups = pd.Series(group_rows(rows, "near-duplicate", close))
        names = rows["image_path"].groupby(groups).agg(lambda paths: frozenset(paths))
        _, test = split_rows(rows, "near-duplicate", 0.2, 1, rule=close, stratify=True)
        results.append((set(names), set(rows["image_path"].iloc[test])))
    assert results[0] == results[1]
    assert len(results[0][0]) < 60


def test_without_vectors_groups_are_what_they_were():
    """The hashes' graph alone: no vector changes a node or a tie."""
    table = vqa(catalogue())
    assert np.array_equal(
        SimilarityRule(4, ()).graph(table).nodes, hash_graph(table["phash"], 4).nodes
    )
    assert strictest_group(table.columns) == "near-duplicate"


# --- commands ------------------------------------------------------------------------------------


@pytest.fixture
def tables(tmp_path):
    """A table without hashes, whose images are alike by their vectors, and the vectors' folder."""
    table, known = pairs_by_vector()
    table = table[["image_path", "question", "answer", "item_id"]]
    write_table(table, tmp_path / "vqa.csv")
    folder_of(tmp_path / "vectors", known.positions, known.vectors)
    return tmp_path


def test_split_and_audit_take_vectors_for_hashes(tables, capsys):
    vectors = ["--vectors", str(tables / "vectors"), "0.95"]
    vqa_file = str(tables / "vqa.csv")
    assert main(["split", "--vqa", vqa_file, "--out", str(tables / "good"), *vectors]) == 0
    output = capsys.readouterr().out
    assert "150 of 150 images found in" in output
    assert "test images that look like one in train: 0" in output
    product = ["split", "--vqa", vqa_file, "--out", str(tables / "bad"), "--group", "product"]
    assert main(product) == 0
    sides = {
        name: [f"--{side}={tables / name / side}.csv" for side in ("train", "test")]
        for name in ("good", "bad")
    }
    assert main(["audit", *sides["good"], *vectors]) == 0
    assert main(["audit", *sides["bad"]]) == 0  # nobody has compared the images
    capsys.readouterr()
    assert main(["audit", *sides["bad"], *vectors]) == 2
    message = capsys.readouterr().err
    assert "near duplicate groups" in message
    assert f"--group near-duplicate --vectors {tables / 'vectors'} 0.95" in message
    assert list(read_table(tables / "good" / "train.csv"))[:3] == [
        "image_path",
        "question",
        "answer",
    ]


@pytest.mark.parametrize("cosine", ["0", "1.01", "-0.5", "nan", "close"])
def test_a_cosine_out_of_range_is_refused(tables, capsys, cosine):
    command = ["split", "--vqa", str(tables / "vqa.csv"), "--out", str(tables / "out")]
    assert main([*command, "--vectors", str(tables / "vectors"), cosine]) == 2
    assert "the cosine must be above 0 and at most 1, e.g. 0.95" in capsys.readouterr().err


NAMES = ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]


@pytest.mark.parametrize(
    ("names", "vectors", "columns", "message"),
    [
        (NAMES, np.zeros((4, 3, 2), np.float32), {}, r"shape \[4, 3, 2\]; one vector of floats"),
        (NAMES, np.zeros((4, 2), np.uint16), {}, "holds uint16 of shape"),
        (NAMES[:3], VECTORS, {}, "has 4 vectors and 3 images"),
        ([*NAMES[:3], "a.jpg"], VECTORS, {}, "a.jpg is there twice"),
        (NAMES, VECTORS, {"tokens": [5, 5, 5, 5]}, "doesn't have one vector per image"),
    ],
)
def test_a_folder_that_holds_something_else_is_refused(tmp_path, names, vectors, columns, message):
    with pytest.raises(UserError, match=message):
        read_image_vectors(folder_of(tmp_path, names, vectors, **columns))


def test_a_folder_that_is_missing_or_damaged_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"it needs the files vectors\.npy and paths\.csv"):
        read_image_vectors(tmp_path / "none")
    folder = folder_of(tmp_path / "torn", NAMES)
    (folder / "vectors.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(UserError, match="is damaged"):
        read_image_vectors(folder)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_a_vector_without_a_direction_is_named(value):
    vectors = VECTORS.copy()
    vectors[2] = value
    with pytest.raises(UserError, match=r"the vector of c\.jpg is zero or not finite"):
        vector_graph(pd.Series(NAMES), known_vectors(NAMES, vectors), 0.9)
