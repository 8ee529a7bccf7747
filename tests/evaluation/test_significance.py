"""Significance tests against other ways to compute the same."""

import numpy as np
import pytest
from scipy.stats import binomtest

from abo_vqa.core.proportions import mcnemar_p
from abo_vqa.evaluation import significance


def test_permutation_finds_a_difference_and_not_a_coin():
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(100), 3)
    coin = rng.integers(-1, 2, 300)
    better = np.where(rng.random(300) < 0.3, 1, 0)
    p = significance.permutation_p(np.column_stack([coin, better]).astype(float), clusters, 2000, 0)
    assert p[0] > 0.05
    assert p[1] == pytest.approx(1 / 2001)
    assert significance.permutation_p(np.zeros((6, 1)), np.arange(6), 100, 0)[0] == 1


def test_mcnemar_is_a_binomial_test_of_the_rows_that_differ():
    a = np.array([1, 1, 1, 1, 0, 0, 1, 0.0])
    b = np.array([0, 0, 0, 1, 0, 1, 0, 0.0])
    assert mcnemar_p(a, b) == binomtest(4, 5).pvalue == mcnemar_p(b, a)
    assert mcnemar_p(a, a) == 1


def test_holm_by_hand():
    assert significance.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert significance.holm([0.9, 0.8]) == [1, 1]


def test_detectable_at_80_percent_power():
    assert significance.detectable_difference(1.0) == pytest.approx(2.8016, abs=1e-4)
