"""The interval that the calibration figure works out itself."""

import pytest
from scipy.stats import binomtest

from abo_vqa.reporting.intervals import wilson


@pytest.mark.parametrize(("right", "n"), [(0, 5), (5, 5), (7, 30), (311, 390)])
def test_wilson_is_scipys(right, n):
    expected = binomtest(right, n).proportion_ci(method="wilson")
    assert wilson(right, n) == pytest.approx((expected.low, expected.high))
