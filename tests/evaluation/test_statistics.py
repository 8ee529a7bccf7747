"""Intervals and tests against other ways to compute the same."""

import numpy as np
import pytest
from scipy.stats import binomtest

from abo_vqa.evaluation import intervals, significance


def rows(seed=0, images=40, each=3, columns=2):
    rng = np.random.default_rng(seed)
    clusters = np.repeat(np.arange(images), each)
    return (rng.random((images * each, columns)) < 0.6).astype(float), clusters


def test_bootstrap_is_resampling_images_one_by_one():
    values, clusters = rows()
    values[::7, 1] = np.nan
    means = intervals.bootstrap_means(values, clusters, 50, 3)
    drawn = np.random.default_rng(3).integers(0, 40, size=(50, 40))
    for r in range(50):
        picked = np.concatenate([values[clusters == image] for image in drawn[r]])
        assert means[r] == pytest.approx(np.nanmean(picked, axis=0))


def test_the_size_of_a_block_changes_nothing(monkeypatch):
    values, clusters = rows()
    whole = intervals.bootstrap_means(values, clusters, 100, 0)
    monkeypatch.setattr(intervals, "BLOCK", 7)
    assert np.allclose(whole, intervals.bootstrap_means(values, clusters, 100, 0), atol=1e-12)


def test_images_that_agree_widen_the_interval():
    right = np.repeat(np.random.default_rng(1).integers(0, 2, 60), 5).astype(float)[:, None]
    together, apart = np.repeat(np.arange(60), 5), np.arange(300)
    means = [intervals.bootstrap_means(right, c, 2000, 0) for c in (together, apart)]
    width = [np.diff(intervals.percentile_interval(m, 0.95))[0, 0] for m in means]
    assert width[0] == pytest.approx(np.sqrt(5) * width[1], rel=0.15)


def test_interval_is_numpys_quantile_with_and_without_gaps():
    means = np.random.default_rng(0).normal(size=(501, 3))
    means[:9, 1] = np.nan
    means[:, 2] = np.nan
    bounds = intervals.percentile_interval(means, 0.9)
    for i in (0, 1):
        assert bounds[i] == pytest.approx(np.nanquantile(means[:, i], [0.05, 0.95]))
    assert np.isnan(bounds[2]).all()


def test_slices_are_the_bootstrap_within_rows():
    values, clusters = rows(columns=2)
    inside = np.stack([np.arange(120) % 4 == 0, np.arange(120) < 6], axis=1)
    means = intervals.bootstrap_slice_means(values, inside, clusters, 200, 5)
    for k in (0, 1):
        part = np.where(inside[:, k : k + 1], values, np.nan)
        expected = intervals.bootstrap_means(part, clusters, 200, 5)
        assert np.allclose(means[:, 2 * k : 2 * k + 2], expected, equal_nan=True)


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
    assert significance.mcnemar_p(a, b) == binomtest(4, 5).pvalue == significance.mcnemar_p(b, a)
    assert significance.mcnemar_p(a, a) == 1


def test_holm_by_hand():
    assert significance.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert significance.holm([0.9, 0.8]) == [1, 1]


def test_wilson_is_scipys_and_never_certain():
    low, high = intervals.wilson_interval(8, 10, 0.95)
    expected = binomtest(8, 10).proportion_ci(0.95, method="wilson")
    assert (low, high) == pytest.approx((expected.low, expected.high))
    assert intervals.wilson_interval(5, 5, 0.95)[0] < 0.6


def test_detectable_at_80_percent_power():
    assert significance.detectable_difference(1.0) == pytest.approx(2.8016, abs=1e-4)
