"""Intervals for images and seeds against closed forms, other libraries and simulated truth."""

import numpy as np
import pytest
from scipy import stats

from abo_vqa.evaluation.seed_variance import (
    ReplicatedScores,
    SeedVariance,
    difference_estimate,
    images_estimate,
    mean_estimate,
    pool_variances,
)
from abo_vqa.evaluation.settings_comparison import compare_settings

RNG = np.random.default_rng(0)
ALONE = np.arange(50)  # every row is an image of its own


def answers(n: int, seeds: int) -> np.ndarray:
    return RNG.integers(0, 2, (n, seeds)).astype(float)


def replicated(scores: np.ndarray, clusters: np.ndarray = ALONE) -> ReplicatedScores:
    return ReplicatedScores.from_scores(scores, clusters)


def test_one_run_of_single_questions_is_students_t():
    scores = answers(50, 1)
    estimate = mean_estimate(replicated(scores), 0.9)
    low, high = stats.t.interval(0.9, 49, scores.mean(), stats.sem(scores[:, 0]))
    assert (estimate.low, estimate.high) == (pytest.approx(low), pytest.approx(high))


def test_a_difference_of_single_runs_is_the_paired_t_test():
    a, b = answers(50, 1), answers(50, 1)
    estimate = difference_estimate(replicated(a), replicated(b), 0.95)
    known = stats.ttest_rel(a[:, 0], b[:, 0])
    assert estimate.p == pytest.approx(known.pvalue)
    interval = known.confidence_interval(0.95)
    assert (estimate.low, estimate.high) == (
        pytest.approx(interval.low),
        pytest.approx(interval.high),
    )


def test_images_that_dont_differ_leave_students_t_over_seeds():
    accuracies = np.array([0.4, 0.5, 0.45, 0.55])
    scores = replicated(np.tile(accuracies, (50, 1)))
    assert scores.sd == pytest.approx(accuracies.std(ddof=1))
    estimate = mean_estimate(scores, 0.95)
    low, high = stats.t.interval(0.95, 3, accuracies.mean(), stats.sem(accuracies))
    assert (estimate.low, estimate.high) == (pytest.approx(low), pytest.approx(high))
    assert images_estimate(scores, 0.95).low == pytest.approx(0.475)
    other = difference_estimate(scores, replicated(np.tile(accuracies - 0.1, (50, 1))), 0.95)
    assert other.p == pytest.approx(stats.ttest_ind(accuracies, accuracies - 0.1).pvalue)


def test_variances_are_those_of_a_two_way_analysis():
    """Three images with 2, 1 and 3 questions, two seeds: by hand, image by image."""
    scores = np.array([[1, 0], [1, 1], [0, 1], [0, 0], [1, 1], [1, 0.0]])
    clusters = np.array([0, 0, 1, 2, 2, 2])
    mean = 7 / 12
    z = np.array(
        [
            [2 - 2 * mean, 1 - 2 * mean],
            [0 - mean, 1 - mean],
            [2 - 3 * mean, 1 - 3 * mean],
        ]
    ) * (3 / 6)
    of_image, of_seed = z.mean(axis=1), z.mean(axis=0)
    residual = ((z - of_image[:, None] - of_seed) ** 2).sum() / 2  # (3 - 1) (2 - 1)
    result = replicated(scores, clusters)
    np.testing.assert_allclose(result.influence, of_image)
    assert result.accuracies == (pytest.approx(4 / 6), pytest.approx(3 / 6))
    assert result.variance == SeedVariance(
        pytest.approx(np.var([4 / 6, 3 / 6], ddof=1)), pytest.approx(residual / 3), 1
    )
    images = images_estimate(result, 0.95)
    error = np.sqrt((of_image**2).sum() / (3 * 2))
    assert images.p == pytest.approx(2 * stats.t.sf(mean / error, 2))
    widest = images_estimate(result, 0.999)
    assert (widest.low, widest.high) == (0.0, 1.0)  # cut to what is possible


def test_seeds_without_luck_of_their_own_add_nothing():
    scores = replicated(answers(50, 2))
    lucky = SeedVariance(1e-4, 2e-4, 1)  # less than the images explain
    assert lucky.own == 0
    one = replicated(answers(50, 1))
    assert mean_estimate(one, 0.95, lucky) == images_estimate(one, 0.95)
    assert mean_estimate(scores, 0.95).low <= images_estimate(scores, 0.95).low


def test_pooling_weighs_by_degrees_of_freedom():
    pooled = pool_variances([SeedVariance(1.0, 0.1, 1), SeedVariance(4.0, 0.4, 3)])
    assert pooled == SeedVariance(pytest.approx(3.25), pytest.approx(0.325), 4)
    assert pool_variances([]) is None


def test_one_image_has_no_interval():
    estimate = mean_estimate(replicated(answers(6, 2), np.zeros(6, int)), 0.95)
    assert np.isnan([estimate.low, estimate.high]).all()
    assert estimate.p == 1


def test_equal_answers_dont_differ():
    scores = replicated(answers(50, 1))
    estimate = difference_estimate(scores, scores, 0.95)
    assert (estimate.value, estimate.low, estimate.high, estimate.p) == (0, 0, 0, 1)


def simulated(rng, images: int, seeds: int, luck: float) -> tuple[np.ndarray, np.ndarray]:
    """Three questions an image; images, seeds and each answer vary around a probit of 0.5."""
    clusters = np.repeat(np.arange(images), 3)
    shape = (3 * images, seeds)
    latent = 0.5 + rng.normal(0, 0.8, images)[clusters][:, None] + rng.normal(0, luck, seeds)
    return (latent + rng.normal(0, 1.1, shape) > 0).astype(float), clusters


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    """Intervals for images alone don't, once seeds differ."""
    rng = np.random.default_rng(0)
    luck, repeats = 0.2, 400
    truth = stats.norm.cdf(0.5 / np.sqrt(0.8**2 + luck**2 + 1.1**2))
    both = images = 0
    for _ in range(repeats):
        scores = ReplicatedScores.from_scores(*simulated(rng, 150, 4, luck))
        estimate, alone = mean_estimate(scores, 0.95), images_estimate(scores, 0.95)
        both += estimate.low <= truth <= estimate.high
        images += alone.low <= truth <= alone.high
    assert 0.91 <= both / repeats <= 0.98
    assert images / repeats < 0.88


def test_equal_settings_rarely_differ():
    """Four seeds against one run, which is taken to vary as the four do."""
    rng = np.random.default_rng(1)
    false_alarms, repeats = 0, 300
    for _ in range(repeats):
        scores, clusters = simulated(rng, 150, 5, 0.15)
        runs = {"a": scores[:, :4], "b": scores[:, 4:]}
        false_alarms += compare_settings(runs, clusters, 0.95).pairs[0].distinguishable
    assert false_alarms / repeats <= 0.09


def test_ranks_say_what_is_certain():
    """Two good settings that can't be told apart, a middling one, and a bad one."""
    rng = np.random.default_rng(2)
    clusters = np.arange(600)
    easy = rng.random((600, 1))
    shares = {"bad": 0.2, "good": 0.8, "also good": 0.79, "middling": 0.5}
    runs = {name: (easy + 0.05 * rng.random((600, 3)) < p) * 1.0 for name, p in shares.items()}
    result = compare_settings(runs, clusters, 0.95)
    assert list(result.estimates)[2:] == ["middling", "bad"]
    assert result.ranks == {"good": (1, 2), "also good": (1, 2), "middling": (3, 3), "bad": (4, 4)}
    assert result.ties == [(1, 2)]
    certain = [pair for pair in result.pairs if pair.distinguishable]
    assert len(result.pairs) == 6
    assert len(certain) == 5
    assert all(pair.difference.value > 0 for pair in certain)
    assert all(pair.p_adjusted >= pair.difference.p for pair in result.pairs)


def test_ties_overlap_where_neighbours_do():
    """1 and 2 can't be told apart, nor 2 and 3, but 1 and 3 can."""
    rng = np.random.default_rng(30)
    clusters = np.arange(400)
    runs = {str(k): (rng.random((400, 1)) < p) * 1.0 for k, p in enumerate((0.74, 0.67, 0.6))}
    result = compare_settings(runs, clusters, 0.95)
    certain = {(p.a, p.b) for p in result.pairs if p.distinguishable}
    assert certain == {("0", "2")}
    assert result.ties == [(1, 2), (2, 3)]
    assert result.ranks == {"0": (1, 2), "1": (1, 3), "2": (2, 3)}
    assert result.seed_variance is None
