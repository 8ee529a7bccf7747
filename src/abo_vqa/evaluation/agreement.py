"""Agreement of several raters: Krippendorff's alpha, Cohen's kappa, with intervals over images.

The values come from the libraries; for the thousands of resamples the same formulas are a few
matrix products over what each image adds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import krippendorff
import numpy as np
from sklearn.metrics import cohen_kappa_score, confusion_matrix

from abo_vqa.evaluation.intervals import (
    bootstrap_totals,
    clustered_wilson_interval,
    percentile_interval,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

Labels = Mapping[tuple[str, str, str], Mapping[str, str]]
"""(image path, question, answer) → rater → label."""


@dataclass(frozen=True)
class Resampling:
    """How intervals are made.

    Attributes:
        resamples: number of resamples, of whole images.
        confidence: e.g. 0.95.
        seed: seed of the random generator.
    """

    resamples: int = 10_000
    confidence: float = 0.95
    seed: int = 42


@dataclass(frozen=True)
class AgreementEstimate:
    """A value and its interval.

    Attributes:
        value: None where it isn't defined: all labels are the same.
        interval: None where resampling can't give one: a single image, or no disagreement.
    """

    value: float | None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class PairAgreement:
    """How two raters agree.

    Attributes:
        raters: their names.
        pairs: how many question-answer pairs both have decided about.
        confusion: [C, C], the first rater's labels in rows, the second's in columns.
        same: the share of pairs with the same label.
        kappa: Cohen's.
    """

    raters: tuple[str, str]
    pairs: int
    confusion: Integers
    same: AgreementEstimate
    kappa: AgreementEstimate


def krippendorff_alpha(
    labels: Labels, categories: Sequence[str], resampling: Resampling
) -> AgreementEstimate:
    """Krippendorff's alpha (2019, ch. 12) for nominal labels, any number of raters, missing labels.

    Args:
        labels: pairs with less than two labels don't matter.
        categories: all labels there are.
        resampling: for the interval.
    """
    units = [pair for pair, votes in labels.items() if len(votes) > 1]
    votes = [list(labels[pair].values()) for pair in units]
    counts = np.array([[unit.count(c) for c in categories] for unit in votes], dtype=float)
    if (counts.sum(axis=0) > 0).sum() < 2:
        return AgreementEstimate(None)
    value = float(
        krippendorff.alpha(value_counts=counts.astype(int), level_of_measurement="nominal")
    )
    n = counts.sum(axis=1)
    disagreement = (n**2 - (counts**2).sum(axis=1)) / (n - 1)
    sums = _sum_by_image(units, np.column_stack([disagreement, counts]))
    totals = bootstrap_totals(sums, resampling.resamples, resampling.seed)
    observed, by_category = totals[:, 0], totals[:, 1:]
    n = by_category.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = (n**2 - (by_category**2).sum(axis=1)) / (n - 1)
        alphas = 1 - observed / expected
    return AgreementEstimate(value, _interval(alphas, len(sums), resampling.confidence))


def pairwise_agreement(
    labels: Labels, categories: Sequence[str], resampling: Resampling
) -> list[PairAgreement]:
    """Compare each two raters that have decided about the same pairs.

    Args:
        labels: all raters'.
        categories: all labels there are, in the order of the confusion's rows.
        resampling: for the intervals.
    """
    raters = sorted({rater for votes in labels.values() for rater in votes})
    results = []
    for a, b in combinations(raters, 2):
        units = [pair for pair, votes in labels.items() if a in votes and b in votes]
        if units:
            first, second = ([labels[pair][rater] for pair in units] for rater in (a, b))
            results.append(_compare((a, b), units, first, second, categories, resampling))
    return results


def _compare(
    raters: tuple[str, str],
    units: Sequence[tuple[str, str, str]],
    first: Sequence[str],
    second: Sequence[str],
    categories: Sequence[str],
    resampling: Resampling,
) -> PairAgreement:
    """Compare two raters' labels of the same units."""
    confusion = confusion_matrix(first, second, labels=list(categories))
    equal = np.array([a == b for a, b in zip(first, second, strict=True)], dtype=float)
    images = _image_numbers(units)
    same = AgreementEstimate(
        float(equal.mean()), clustered_wilson_interval(equal, images, resampling.confidence)
    )
    kappa = AgreementEstimate(None)
    if len({*first, *second}) > 1:
        size = len(categories)
        cells = np.zeros((len(units), size * size))
        columns = [
            categories.index(a) * size + categories.index(b)
            for a, b in zip(first, second, strict=True)
        ]
        cells[np.arange(len(units)), columns] = 1
        sums = _sum_by_image(units, cells)
        totals = bootstrap_totals(sums, resampling.resamples, resampling.seed)
        kappas = _kappas(totals.reshape(-1, size, size))
        value = float(cohen_kappa_score(first, second, labels=list(categories)))
        kappa = AgreementEstimate(value, _interval(kappas, len(sums), resampling.confidence))
    return PairAgreement(raters, len(units), confusion, same, kappa)


def _kappas(confusions: Floats) -> Floats:
    """Cohen's kappa of each of [R, C, C] confusions; NaN where all labels are the same."""
    n = confusions.sum(axis=(1, 2))
    observed = np.trace(confusions, axis1=1, axis2=2) / n
    expected = (confusions.sum(axis=1) * confusions.sum(axis=2)).sum(axis=1) / n**2
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((observed - expected) / (1 - expected))


def _interval(values: Floats, images: int, confidence: float) -> tuple[float, float] | None:
    """The percentile interval of resampled values, None where they can't give one."""
    low, high = percentile_interval(values[:, None], confidence)[0]
    if images < 2 or np.isnan(low) or low == high:
        return None
    return float(low), float(high)


def _image_numbers(units: Sequence[tuple[str, str, str]]) -> Integers:
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(image, len(numbers)) for image, _, _ in units])


def _sum_by_image(units: Sequence[tuple[str, str, str]], rows: Floats) -> Floats:
    """[G, K] sums of the rows [U, K] of each image's units."""
    images = _image_numbers(units)
    sums = np.zeros((int(images.max()) + 1, rows.shape[1]))
    np.add.at(sums, images, rows)
    return sums
