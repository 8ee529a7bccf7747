"""Clusters and bundles that are found many at a time are those found one by one."""

import random
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from abo_vqa.data import groups as groups_module
from abo_vqa.data.groups import bundle_groups, connected_rows, leader_clusters
from abo_vqa.data.hashes import hash_graph
from abo_vqa.data.neighbours import Neighbours, order_by_density
from tests.support.splitting import hexed


def owners_and_graph(rng):
    """Units of one or more images, of which a few have no hash; sparse and dense graphs."""
    count, width = rng.randrange(1, 60), rng.randrange(3, 10)
    owners = [rng.randrange(rng.choice([5, 60])) for _ in range(count)]
    drawn = [rng.getrandbits(width) for _ in range(count)]
    hashes = ["" if rng.random() < 0.1 else hexed(0xFF00 ^ bits) for bits in drawn]
    graph = hash_graph(pd.Series(hashes, dtype=object), rng.randrange(4))
    return pd.factorize(np.array(owners))[0], graph


def nodes_by_unit(units, graph):
    return [sorted({n for n in graph.nodes[units == u] if n >= 0}) for u in range(units.max() + 1)]


def near(graph, one, other):
    return any(graph.adjacency[a, b] for a in one for b in other)


def clusters_one_by_one(units, graph):
    """Butina's clusters as they are defined."""
    own = nodes_by_unit(units, graph)
    count = len(own)
    holders = np.array([sum(n in nodes for nodes in own) for n in range(graph.adjacency.shape[0])])
    density = [sum((graph.adjacency @ holders)[n] for n in nodes) for nodes in own]
    cluster, free = list(range(count)), {u for u in range(count) if own[u]}
    for centre in sorted(range(count), key=lambda u: (-density[u], own[u])):
        if centre in free:
            taken = {u for u in free if near(graph, own[centre], own[u])}
            free -= taken
            for u in taken:
                cluster[u] = centre
    return cluster


def bundles_one_by_one(groups, graph, limit, whole):
    """Kruskal's algorithm with a limit, in every component alike."""
    own, rows = nodes_by_unit(groups, graph), np.bincount(groups)
    pairs = []
    for a, b in combinations(range(len(own)), 2):
        if shared := sum(graph.adjacency[x, y] for x in own[a] for y in own[b]):
            pairs.append((-shared / np.sqrt(rows[a] * rows[b]), a, b))
    component = list(range(len(own)))
    for _, a, b in pairs:
        old, new = max(component[a], component[b]), min(component[a], component[b])
        component = [new if c == old else c for c in component]
    weight = np.bincount(component, weights=rows)
    bundle, size = list(range(len(own))), rows.tolist()
    for _, a, b in sorted(pairs):
        cut = weight[component[a]] > whole
        old, new = max(bundle[a], bundle[b]), min(bundle[a], bundle[b])
        if old != new and (not cut or size[old] + size[new] <= limit):
            size[new] += size[old]
            bundle = [new if c == old else c for c in bundle]
    return [bundle[group] for group in groups]


@pytest.mark.parametrize("rounds", [0, 1, 2, 100])
def test_centres_are_those_of_visiting_units_one_by_one(rounds, monkeypatch):
    monkeypatch.setattr(groups_module, "_MAX_ROUNDS", rounds)  # the others are visited one by one
    for seed in range(30):
        units, graph = owners_and_graph(random.Random(seed))
        assert leader_clusters(units, graph).tolist() == clusters_one_by_one(units, graph)


def test_bundles_are_those_of_merging_every_component():
    for seed in range(60):
        rng = random.Random(seed)
        units, graph = owners_and_graph(rng)
        limit, whole = rng.randrange(1, 20), rng.randrange(30)
        merged = bundle_groups(units, graph, limit, whole).tolist()
        assert merged == bundles_one_by_one(units, graph, limit, whole)


def test_components_of_rows_are_those_of_passing_shared_values_on():
    for seed in range(60):
        rng = random.Random(seed)
        rows = []
        for _ in range(rng.randrange(1, 15)):  # rows in a row are often the same
            row = tuple(rng.randrange(-1, 8) for _ in range(3))
            rows += [row] * rng.randrange(1, 4)
        label = list(range(len(rows)))
        for _ in rows:
            for a, b in combinations(range(len(rows)), 2):
                if any(x == y >= 0 for x, y in zip(rows[a], rows[b], strict=True)):
                    label[a] = label[b] = min(label[a], label[b])
        columns = list(np.array(rows).T)
        assert connected_rows(columns).tolist() == pd.factorize(np.array(label))[0].tolist()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.sets(st.integers(0, 4))), max_size=30))
def test_ties_in_density_are_broken_by_all_nodes(drawn):
    density = np.array([number for number, _ in drawn], dtype=np.int64)
    has = np.zeros((len(drawn), 5), dtype=np.int32)
    for unit, (_, nodes) in enumerate(drawn):
        has[unit, list(nodes)] = 1
    expected = sorted(range(len(drawn)), key=lambda u: (-density[u], sorted(drawn[u][1])))
    assert order_by_density(density, csr_matrix(has)).tolist() == expected


def test_neighbours_of_units_without_nodes_are_none():
    has = csr_matrix(np.array([[1, 0], [0, 0], [0, 1]], dtype=np.int32))
    apart = Neighbours(has, csr_matrix(np.eye(2, dtype=np.int32)))
    assert apart.smallest(np.array([4, 5, 6])).tolist() == [4, 6, 6]
    assert apart.of(0).tolist() == [0]
    assert apart.of(1).tolist() == []


def test_long_chains_of_equal_density_are_decided_without_a_round_each(monkeypatch):
    """Each image resembles the next, and comes just before it: a round decides one of them."""
    rng = random.Random(0)
    steps = [1 << bit for bit in range(64)]
    chain, bits = [], 0
    for _ in range(12):
        rng.shuffle(steps)
        for step in steps:
            bits ^= step
            chain.append(bits)
    rounds = []
    smallest = Neighbours.smallest
    monkeypatch.setattr(Neighbours, "smallest", lambda *args: rounds.append(1) or smallest(*args))
    hashes = pd.Series([hexed(bits) for bits in dict.fromkeys(chain)], dtype=object)
    leader_clusters(np.arange(len(hashes)), hash_graph(hashes, 1))
    assert len(rounds) <= 2 * groups_module._MAX_ROUNDS + 1
