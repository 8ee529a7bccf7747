"""Bundles that are skipped without a closer look could not have been taken."""

import random

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from abo_vqa.data import assignment
from abo_vqa.data.assignment import Bundles, _Side, assign_bundles


def drawn_bundles(seed):
    """Bundles of few and of many product types, whose rows make gains of exactly 0 likely."""
    rng = random.Random(seed)
    types = np.zeros((rng.randrange(2, 80), rng.randrange(1, 20)), dtype=np.int64)
    for row in types:
        for _ in range(rng.choice((1, 1, 2, 12))):
            row[rng.randrange(len(row))] += rng.choice((1, 5, 20, 100))
    return Bundles(types.sum(axis=1), csr_matrix(types), np.ones(len(types), dtype=bool))


def by_definition(side, bundles, bundle, by_type, sign):
    """The gain as numpy computes it of one bundle."""
    rows = sign * float(bundles.rows[bundle])
    gain = abs(side.missing) - abs(side.missing - rows)
    counts = bundles.types[bundle].tocoo()
    missing = np.array(side._missing_types)[counts.col]
    in_types = float(np.sum(np.abs(missing) - np.abs(missing - sign * counts.data)))
    return gain + 1.01 * in_types if by_type else gain


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("by_type", [True, False])
def test_no_bundle_is_skipped_that_would_gain_then_or_later(monkeypatch, by_type, sign):
    for seed in range(6):
        bundles, rng = drawn_bundles(seed), random.Random(seed)
        side = _Side(bundles, rng.choice((0.05, 0.2, 0.5)))
        every = list(range(len(bundles.rows)))
        for bundle in rng.sample(every, rng.randrange(len(every))):
            side.take(bundle)
        monkeypatch.setattr(assignment, "_STEP", 7)
        likely = set(side._likely(np.arange(len(every)), by_type, sign))
        for moved in rng.sample(every, len(every) // 3):
            for bundle in every:
                gain = side.gain(bundle, by_type, sign)
                assert gain == by_definition(side, bundles, bundle, by_type, sign)
                assert bundle in likely or gain <= 0
            if side._taken[moved] == (sign < 0):
                side.take(moved, sign)


def test_the_test_set_has_its_share_and_is_the_same_every_time():
    for seed in range(20):
        bundles = drawn_bundles(seed)
        first, second = (assign_bundles(bundles, None, 0.3, 5) for _ in range(2))
        assert np.array_equal(first, second)
        assert 0 < first.sum() < len(first)


def test_how_many_bundles_are_looked_through_at_a_time_changes_nothing(monkeypatch):
    for seed in range(20):
        bundles = drawn_bundles(seed)
        whole = assign_bundles(bundles, None, 0.3, seed)
        monkeypatch.setattr(assignment, "_STEP", 1 + seed % 3)
        assert np.array_equal(assign_bundles(bundles, None, 0.3, seed), whole)
        monkeypatch.undo()
