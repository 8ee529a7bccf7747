"""The search for near-duplicate hashes finds the pairs that comparing all finds, each once."""

import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abo_vqa.core.errors import UserError
from abo_vqa.data import hash_search, similarity
from abo_vqa.data.hash_search import close_pairs, plan_search, search_part
from abo_vqa.data.hashes import hash_graph

ALL = (1 << 64) - 1


def compared(bits, distance):
    """All pairs, compared one by one."""
    apart = np.bitwise_count(bits[:, None] ^ bits[None, :])
    i, j = np.nonzero(np.triu(apart <= distance, 1))
    return list(zip(i.tolist(), j.tolist(), strict=True))


def ordered(pairs):
    return sorted(
        (min(a, b), max(a, b))
        for i, j in pairs
        for a, b in zip(i.tolist(), j.tolist(), strict=True)
    )


def by_tables(bits, blocks, distance):
    parts = hash_search._tables(blocks, distance, None)
    return ordered(search_part(bits, part) for part in parts)


def near_copies(rng, count, varying=ALL, flips=7):
    """Half of them random in some bits, the others copies with a few of these flipped."""
    heads = rng.integers(0, ALL, count // 2, dtype=np.uint64, endpoint=True) & np.uint64(varying)
    copies = heads[rng.integers(0, len(heads), count - len(heads))]
    places = np.flatnonzero([(varying >> bit) & 1 for bit in range(64)])
    for number in range(flips):
        bit = np.uint64(1) << rng.choice(places, len(copies)).astype(np.uint64)
        copies = np.where(rng.integers(0, flips, len(copies)) > number, copies ^ bit, copies)
    return np.concatenate([heads, copies])


@st.composite
def hashes(draw):
    """Hashes of few looks: centres, and copies of them with bits flipped in a chosen region."""
    centres = draw(st.lists(st.integers(0, ALL), min_size=1, max_size=4))
    region = draw(st.sampled_from([range(64), range(8), range(0, 64, 8), range(40, 64)]))
    flips = st.lists(st.sampled_from(list(region)), max_size=10)
    copies = draw(st.lists(st.tuples(st.sampled_from(centres), flips), max_size=60))
    bits = [*centres]
    for bit_pattern, places in copies:
        for place in places:
            bit_pattern ^= 1 << place
        bits.append(bit_pattern)
    return np.array(bits, dtype=np.uint64)


@settings(max_examples=150, deadline=None)
@given(hashes(), st.integers(0, 8), st.integers(1, 4), st.integers(2, 70), st.integers(1, 300))
def test_tables_find_each_close_pair_once(bits, distance, extra, small, chunk):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hash_search, "_SMALL", small)  # buckets compared by tiles, and by lists
        patch.setattr(hash_search, "_CHUNK", chunk)
        patch.setattr(hash_search, "_TILE", (3, 7))
        assert by_tables(bits, distance + extra, distance) == compared(bits, distance)


@settings(max_examples=50, deadline=None)
@given(hashes(), st.integers(0, 64))
def test_any_distance_finds_each_close_pair_once(bits, distance):
    assert ordered(close_pairs(bits, distance)) == compared(bits, distance)


@pytest.mark.parametrize("distance", [0, 1, 4, 8])
@pytest.mark.parametrize(
    "varying",
    [ALL, 0xFFFFFFFF, 0x0101010101010101 * 0x3, 0xFFFFF << 44],
    ids=["all bits", "half of the bits", "two columns", "20 bits"],
)
def test_skewed_hashes_of_two_thousand_lose_no_pair(varying, distance):
    bits = near_copies(np.random.default_rng(distance), 2000, varying)
    assert ordered(close_pairs(bits, distance)) == compared(bits, distance)


@pytest.mark.parametrize("count", [0, 1, 2, 500])
def test_equal_hashes_are_all_pairs(count):
    bits = np.full(count, 0xFF00FF, dtype=np.uint64)
    found = ordered(close_pairs(bits, 4))
    assert len(found) == len(set(found)) == count * (count - 1) // 2
    assert len(by_tables(bits, 6, 4)) == len(found)


def test_the_plan_uses_tables_where_they_save_work_and_strips_where_none_do():
    bits = near_copies(np.random.default_rng(0), 40_000)
    tables = plan_search(bits, 4)
    assert all(part.key for part in tables)
    # Buckets are small: each hash meets few others, where comparing all would meet all.
    met = sum(hash_search._pairs_in_buckets(bits, part.key) for part in tables)
    assert met < len(bits) ** 2 / 2 / 20
    strips = plan_search(bits, 32)
    assert {part.key for part in strips} == {0}
    assert sorted(part.strip for part in strips) == list(range(strips[0].strips))
    assert len(plan_search(bits[:200], 4)) == 1


def test_constant_bits_make_the_plan_take_longer_keys():
    rng = np.random.default_rng(0)
    plain = plan_search(near_copies(rng, 100_000), 4)
    skewed = plan_search(near_copies(rng, 100_000, 0xFFFFFFFF), 4)
    assert plain[0].key.bit_count() < skewed[0].key.bit_count()


def test_strips_of_all_hashes_find_what_the_whole_finds():
    bits = near_copies(np.random.default_rng(3), 6000, flips=14)
    strips = plan_search(bits, 12)
    assert len(strips) > 1
    assert ordered(search_part(bits, part) for part in strips) == compared(bits, 12)


def test_parts_can_be_dealt_to_processes_in_any_order():
    bits = near_copies(np.random.default_rng(1), 20_000)

    def elsewhere(function, parts):
        function = pickle.loads(pickle.dumps(function))
        results = {part: function(pickle.loads(pickle.dumps(part))) for part in reversed(parts)}
        return (results[part] for part in parts)

    assert ordered(close_pairs(bits, 4, run=elsewhere)) == ordered(close_pairs(bits, 4))
    names = pd.Series([f"{value:016x}" for value in bits.tolist()], dtype=object)
    near, far = hash_graph(names, 4), hash_graph(names, 4, run=elsewhere)
    assert (near.adjacency != far.adjacency).nnz == 0
    assert np.array_equal(near.adjacency.indices, far.adjacency.indices)


def test_a_part_stops_soon_after_its_limit(monkeypatch):
    monkeypatch.setattr(hash_search, "_SMALL", 1 << 20)
    bits = np.full(5000, 0xFF00FF, dtype=np.uint64)  # 12 million pairs
    for part in (*plan_search(bits, 4, limit=1000), *hash_search._tables(6, 4, 1000)):
        assert len(search_part(bits, part)[0]) < 1000 + np.prod(hash_search._TILE)


def test_too_many_alike_hashes_are_refused_before_all_pairs_exist(monkeypatch):
    monkeypatch.setattr(similarity, "_MAX_PAIRS", 10_000)
    monkeypatch.setattr(similarity, "_MAX_PAIRS_PER_IMAGE", 0)
    taken = []

    def run(function, parts):
        for part in parts:
            pairs = function(part)
            taken.append(len(pairs[0]))
            yield pairs

    names = pd.Series([f"{1 << 40 | value:016x}" for value in range(1 << 12)], dtype=object)
    with pytest.raises(UserError, match="more than 10,000 pairs of 4,096 images"):
        hash_graph(names, 8, run=run)
    assert max(taken) < 5000 + np.prod(hash_search._TILE)


@pytest.mark.parametrize("distance", [0, 2, 4, 6])
def test_real_hashes_have_the_pairs_that_comparing_all_finds(real, distance):
    table = pd.read_csv(real / "hashes.csv", dtype=str, keep_default_na=False)
    graph = hash_graph(table["phash"].astype(object), distance)
    bits = np.unique(np.array([int(h, 16) for h in set(table["phash"])], dtype=np.uint64))
    whole = hash_search.SearchPart(distance, 0)
    expected = ordered([search_part(bits, whole)])
    assert len(set(expected)) == len(expected)
    entries = graph.adjacency.tocoo()
    pairs = list(zip(entries.row.tolist(), entries.col.tolist(), strict=True))
    itself = [(node, node) for node in range(len(bits))]
    assert sorted(pairs) == sorted([*expected, *((j, i) for i, j in expected), *itself])
    assert set(entries.data.tolist()) == {1}
