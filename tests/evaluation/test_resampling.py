"""Resampling in blocks and chunks against rows that are drawn one resample after the other."""

from collections.abc import Iterator

import numpy as np
import pytest

from abo_vqa.evaluation import resampling
from abo_vqa.evaluation.intervals import bootstrap_slice_means
from abo_vqa.evaluation.resampling import SliceSums, blocks, drawn_counts, drawn_signs, drawn_totals

Table = np.ndarray
GROUPS, RESAMPLES, SEED = 37, 53, 3


@pytest.fixture(params=[None, 3 * GROUPS, GROUPS - 7])
def _sizes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sizes as they are, where a test is one piece, or several pieces of everything."""
    if request.param:
        for name, size in {"BLOCK": 20, "CHUNK": 10, "_DRAWS": request.param}.items():
            monkeypatch.setattr(resampling, name, size)


def plain_draws() -> Table:
    return np.random.default_rng(SEED).integers(0, GROUPS, size=(RESAMPLES, GROUPS))


def plain_slice_means(values: Table, slices: list[Table], clusters: Table) -> Iterator[list[float]]:
    """Of each resample: the rows of the clusters drawn, those of each slice averaged."""
    inside = [np.isin(np.arange(len(values)), rows) for rows in slices]
    for draw in plain_draws():
        rows = np.concatenate([np.flatnonzero(clusters == cluster) for cluster in draw])
        means = []
        for mask in inside:
            part = values[rows[mask[rows]]]
            means += part.mean(axis=0).tolist() if len(part) else [np.nan] * values.shape[1]
        yield means


@pytest.mark.usefixtures("_sizes")
def test_counts_are_those_of_all_draws_at_once() -> None:
    plain = [np.bincount(draw, minlength=GROUPS) for draw in plain_draws()]
    drawn = list(drawn_counts(GROUPS, RESAMPLES, SEED))
    assert np.array_equal(np.concatenate([counts for _, counts in drawn]), plain)
    assert [r for block, _ in drawn for r in range(RESAMPLES)[block]] == list(range(RESAMPLES))


@pytest.mark.usefixtures("_sizes")
def test_signs_are_those_of_all_draws_at_once() -> None:
    plain = np.random.default_rng(SEED).integers(0, 2, size=(RESAMPLES, GROUPS)) * 2 - 1
    assert np.array_equal(np.concatenate([*drawn_signs(GROUPS, RESAMPLES, SEED)]), plain)


@pytest.mark.usefixtures("_sizes")
def test_totals_in_chunks_are_one_product() -> None:
    rng = np.random.default_rng(0)
    signs = rng.choice([-1, 1], size=(5, GROUPS)).astype(np.int8)
    whole, fractions = rng.integers(0, 9, size=(GROUPS, 4)).astype(float), rng.random((GROUPS, 4))
    assert np.array_equal(drawn_totals(signs, whole), signs @ whole)
    assert drawn_totals(signs, fractions) == pytest.approx(signs @ fractions)


@pytest.mark.usefixtures("_sizes")
def test_slice_means_are_those_of_rows_drawn_with_their_images() -> None:
    rng = np.random.default_rng(1)
    clusters = rng.permutation(np.concatenate([np.arange(GROUPS), rng.integers(0, GROUPS, 80)]))
    n = len(clusters)
    values = rng.integers(0, 2, size=(n, 3)).astype(float)
    column = rng.integers(0, 4, n)
    slices = [*(np.flatnonzero(column == k) for k in range(4)), np.arange(0, n, 7), np.array([5])]
    plain = np.array(list(plain_slice_means(values, slices, clusters)))
    means = bootstrap_slice_means(values, slices, clusters, RESAMPLES, SEED)
    assert np.isnan(plain).any(), "some resample lacks the slice of a single row"
    assert np.array_equal(means, plain, equal_nan=True), "whole numbers are added up exactly"
    fractions = values * 0.3
    expected = list(plain_slice_means(fractions, slices, clusters))
    means = bootstrap_slice_means(fractions, slices, clusters, RESAMPLES, SEED)
    assert np.allclose(means, expected, equal_nan=True, rtol=1e-12)


@pytest.mark.parametrize("value", [2.0**24 + 1, 0.1])
def test_what_single_precision_lacks_is_added_up_in_double(value: float) -> None:
    sums = SliceSums(np.array([[value]]), [np.array([0])], np.array([0]), 1)
    totals = sums.totals(np.array([[1]], dtype=np.uint8))
    assert totals.tolist() == [[[1.0]], [[value]]]


def test_no_slices_have_no_means() -> None:
    assert bootstrap_slice_means(np.ones((3, 2)), [], np.arange(3), 10, 0).shape == (10, 0)


def test_a_block_is_bounded_whatever_the_number_of_clusters() -> None:
    for groups in (1, 1_000, 200_000, 10_000_000, 100_000_000):
        sizes = [block.stop - block.start for block in blocks(1000, groups)]
        assert sum(sizes) == 1000
        assert max(sizes) == 1 or max(sizes) * groups <= 64_000_000
        assert max(sizes) <= resampling.BLOCK
