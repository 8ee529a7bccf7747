"""Intervals against other ways to compute the same."""

import numpy as np
import pytest

from abo_vqa.core.proportions import wilson_interval
from abo_vqa.evaluation import intervals, resampling


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
    monkeypatch.setattr(resampling, "BLOCK", 7)
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


def test_columns_need_not_be_one_array():
    values, clusters = rows(columns=3)
    values[::7, 1] = np.nan
    together = intervals.bootstrap_means(values, clusters, 50, 3)
    apart = intervals.bootstrap_means(list(values.T), clusters, 50, 3)
    assert np.array_equal(together, apart)


def test_sums_within_clusters_are_those_of_a_loop():
    values, clusters = rows(columns=2)
    values[5, 0] = np.nan
    sums, counts = intervals.cluster_sums(values, clusters)
    for g in range(clusters.max() + 1):
        for m in (0, 1):
            inside = [v for v in values[clusters == g, m] if not np.isnan(v)]
            assert counts[g, m] == len(inside)
            assert sums[g, m] == pytest.approx(sum(inside))


def test_slices_are_the_bootstrap_within_rows():
    values, clusters = rows(columns=2)
    inside = np.stack([np.arange(120) % 4 == 0, np.arange(120) < 6], axis=1)
    slices = [np.flatnonzero(mask) for mask in inside.T]
    means = intervals.bootstrap_slice_means(values, slices, clusters, 200, 5)
    for k in (0, 1):
        part = np.where(inside[:, k : k + 1], values, np.nan)
        expected = intervals.bootstrap_means(part, clusters, 200, 5)
        assert np.allclose(means[:, 2 * k : 2 * k + 2], expected, equal_nan=True)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(0, 5, 0.0, 0.434482), (5, 5, 0.565518, 1.0), (8, 10, 0.490162, 0.943318),
     (311, 390, 0.754736, 0.834334)],
)  # fmt: skip
def test_wilson_by_its_formula(successes, trials, low, high):
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=1e-6)
    z, share = 1.959963984540054, successes / trials
    centre = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * (share * (1 - share) / trials + (z / trials) ** 2 / 4) ** 0.5
    assert wilson_interval(successes, trials) == pytest.approx(
        (max(0, centre - half), min(1, centre + half))
    )


def test_wilson_takes_whole_numbers_only():
    with pytest.raises(TypeError):
        wilson_interval(2.5, 10)
