"""The two intervals that figures work out themselves."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from abo_vqa.reporting.intervals import clustered_mean, wilson


@pytest.mark.parametrize(("right", "n"), [(0, 5), (5, 5), (7, 30), (311, 390)])
def test_wilson_is_scipys(right, n):
    expected = binomtest(right, n).proportion_ci(method="wilson")
    assert wilson(right, n) == pytest.approx((expected.low, expected.high))


def test_clustered_mean_counts_pictures_not_rows():
    rng = np.random.default_rng(0)
    luck = rng.random(200) < 0.6
    once = pd.Series(luck, dtype=float)
    mean, low, high = clustered_mean(once, pd.Series(range(200)))
    # Three copies of every row say nothing new: the same interval.
    thrice = pd.concat([once] * 3, ignore_index=True)
    assert clustered_mean(thrice, pd.Series(list(range(200)) * 3)) == pytest.approx(
        (mean, low, high)
    )
    half = 1.96 * once.std() / np.sqrt(200)
    assert (low, high) == pytest.approx((mean - half, mean + half), abs=1e-4)


def test_clustered_mean_covers_the_truth():
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(300):
        share = rng.beta(3, 2, 80)  # a picture's own difficulty, shared by its questions
        rows = pd.Series((rng.random((80, 3)) < share[:, None]).ravel(), dtype=float)
        _, low, high = clustered_mean(rows, pd.Series(np.repeat(np.arange(80), 3)))
        inside += low <= 0.6 <= high
    assert 0.91 <= inside / 300 <= 0.985


def test_one_picture_has_no_interval():
    assert clustered_mean(pd.Series([1.0, 0.0]), pd.Series(["a", "a"])) == (0.5, 0.5, 0.5)
