"""Accuracy of settings whose training was repeated with several seeds.

A test result has two sources of noise: which images were tested, and what training drew at random
(order of rows, initial weights, dropout). Bouthillier et al. (2021, "Accounting for variance in
machine learning benchmarks", MLSys) show that the second is often as large as the difference that
is claimed. Every seed answers every image, so the two sources are crossed. With z[g, s] an image's
contribution to the accuracy of seed s (G images, S seeds; z averages to 0),

    images    V_images = sum over g of mean_s(z)² / (G (G - 1))
    seeds     total = variance of the S accuracies; what seeds would differ by with the same images
              and no luck of their own is total - residual, where residual is the mean square of
              z[g, s] - mean_s(z) - mean_g(z), divided by G
    together  V = V_images + max(0, total - residual) / S

which is the two-way clustered variance (Cameron, Gelbach & Miller, 2011; Owen, 2007, compares it
with the bootstrap that resamples rows and columns). Few seeds leave its second part uncertain: the
interval is Student's t with the degrees of freedom of Satterthwaite (1946). In simulations
(`benchmarks/seed_intervals.py`) it covers the true mean about as often as it says from three seeds
on; for two, the bootstrap over images and seeds is too narrow by more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import t

from abo_vqa.evaluation.intervals import cluster_sums

if TYPE_CHECKING:
    from abo_vqa.evaluation.intervals import Floats, Integers


@dataclass(frozen=True)
class SeedVariance:
    """How much the accuracies of runs differ that have all but the seed in common.

    Attributes:
        total: the variance of their accuracies.
        residual: the part of it that more images would average out.
        freedom: degrees of freedom: the number of runs minus 1, summed over settings.
    """

    total: float
    residual: float
    freedom: int

    @property
    def own(self) -> float:
        """The part that no number of images averages out."""
        return max(0.0, self.total - self.residual)


@dataclass(frozen=True)
class ReplicatedScores:
    """The scores of one or several runs with the same settings.

    Attributes:
        mean: the mean accuracy.
        accuracies: each run's.
        influence: [G] what each image contributes to the mean, times G; averages to 0.
        variance: of the seeds; None for a single run.
    """

    mean: float
    accuracies: tuple[float, ...]
    influence: Floats
    variance: SeedVariance | None

    @property
    def sd(self) -> float | None:
        """The standard deviation of the runs' accuracies; None for a single run."""
        return None if self.variance is None else float(np.sqrt(self.variance.total))

    @classmethod
    def from_scores(cls, scores: Floats, clusters: Integers) -> ReplicatedScores:
        """Take the scores apart.

        Args:
            scores: [n, S] the accuracy of each test row in each run, 0 or 1.
            clusters: [n] the number of each row's image.
        """
        mean = float(scores.mean())
        sums, _ = cluster_sums(scores - mean, clusters)
        groups, runs = sums.shape
        z = sums * (groups / len(scores))  # [G, S]
        of_image, of_seed = z.mean(axis=1), z.mean(axis=0)
        variance = None
        if runs > 1:
            rest = z - of_image[:, None] - of_seed
            square = float((rest**2).sum()) / max(1, (groups - 1) * (runs - 1))
            variance = SeedVariance(float(of_seed.var(ddof=1)), square / groups, runs - 1)
        return cls(mean, tuple(float(a) for a in scores.mean(axis=0)), of_image, variance)


@dataclass(frozen=True)
class Estimate:
    """A mean or a difference, with its interval.

    Attributes:
        value: the estimate.
        low: the interval's lower bound; NaN where a single image was tested.
        high: its upper bound.
        p: two-sided, of the hypothesis that the true value is 0.
    """

    value: float
    low: float
    high: float
    p: float


def pool_variances(variances: Sequence[SeedVariance]) -> SeedVariance | None:
    """Average the seeds' variances of several settings, by their degrees of freedom.

    Args:
        variances: of the settings with several runs on the same test rows.

    Returns:
        What a setting with a single run is taken to have; None if no setting has several runs.
    """
    freedom = sum(variance.freedom for variance in variances)
    if not freedom:
        return None
    total = sum(v.total * v.freedom for v in variances) / freedom
    residual = sum(v.residual * v.freedom for v in variances) / freedom
    return SeedVariance(total, residual, freedom)


def mean_estimate(
    scores: ReplicatedScores, confidence: float, pooled: SeedVariance | None = None
) -> Estimate:
    """Return the mean accuracy with an interval for images and seeds.

    Args:
        scores: the runs'.
        confidence: e.g. 0.95.
        pooled: the seeds' variance for a single run; None leaves only the images.
    """
    terms = _seed_terms([scores], pooled)
    return _within_bounds(_estimate(scores.mean, scores.influence, terms, confidence))


def images_estimate(scores: ReplicatedScores, confidence: float) -> Estimate:
    """Return the mean accuracy with an interval for images only: of these very trainings.

    Args:
        scores: the runs'.
        confidence: e.g. 0.95.
    """
    return _within_bounds(_estimate(scores.mean, scores.influence, {}, confidence))


def difference_estimate(
    a: ReplicatedScores,
    b: ReplicatedScores,
    confidence: float,
    pooled: SeedVariance | None = None,
) -> Estimate:
    """Return the difference a - b of two settings, paired over images, seeds being independent.

    Args:
        a: one setting's runs.
        b: another's, on the same test rows.
        confidence: e.g. 0.95.
        pooled: the seeds' variance for a setting with a single run; None leaves only the images.
    """
    terms = _seed_terms([a, b], pooled)
    return _estimate(a.mean - b.mean, a.influence - b.influence, terms, confidence)


def _within_bounds(accuracy: Estimate) -> Estimate:
    """Cut the interval of an accuracy to what is possible."""
    low, high = np.clip([accuracy.low, accuracy.high], 0.0, 1.0)  # NaN stays NaN
    return Estimate(accuracy.value, float(low), float(high), accuracy.p)


def _seed_terms(
    sides: Sequence[ReplicatedScores], pooled: SeedVariance | None
) -> dict[SeedVariance, float]:
    """The seeds' variances and their weights in the variance of a mean or a difference."""
    terms: dict[SeedVariance, float] = {}
    for side in sides:
        variance = side.variance or pooled
        if variance is not None:
            # One estimate for both sides counts as one: its error is the same in both.
            terms[variance] = terms.get(variance, 0.0) + 1 / len(side.accuracies)
    return terms


def _estimate(
    value: float, influence: Floats, terms: dict[SeedVariance, float], confidence: float
) -> Estimate:
    """Student's t interval with Satterthwaite's degrees of freedom."""
    groups = len(influence)
    if groups < 2:
        return Estimate(value, float("nan"), float("nan"), 1.0)
    images = float((influence**2).sum()) / (groups * (groups - 1))
    seeds = {variance: weight for variance, weight in terms.items() if variance.own > 0}
    total = images + sum(weight * variance.own for variance, weight in seeds.items())
    if total == 0:  # all rows have the same score
        return Estimate(value, value, value, 1.0 if value == 0 else 0.0)
    uncertainty = images**2 / (groups - 1) + sum(
        (weight * variance.total) ** 2 / variance.freedom for variance, weight in seeds.items()
    )
    freedom, error = total**2 / uncertainty, total**0.5
    half = float(t.ppf((1 + confidence) / 2, freedom)) * error
    p = 2 * float(t.sf(abs(value) / error, freedom))
    return Estimate(value, value - half, value + half, p)
