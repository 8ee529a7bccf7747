"""Settings against each other: which differences exceed the noise, and which ranks are certain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from abo_vqa.evaluation.seed_variance import (
    Estimate,
    ReplicatedScores,
    SeedVariance,
    difference_estimate,
    mean_estimate,
    pool_variances,
)
from abo_vqa.evaluation.significance import holm

if TYPE_CHECKING:
    from abo_vqa.evaluation.intervals import Floats, Integers


@dataclass(frozen=True)
class SettingsPair:
    """Two settings on the same test rows.

    Attributes:
        a: the better one's name.
        b: the other's.
        difference: a's mean accuracy minus b's.
        p_adjusted: by Holm (1979), over all pairs.
        distinguishable: whether the difference exceeds the noise.
    """

    a: str
    b: str
    difference: Estimate
    p_adjusted: float
    distinguishable: bool


@dataclass(frozen=True)
class SettingsComparison:
    """Settings that were tested on the same rows, the best first.

    Attributes:
        scores: the runs of each.
        estimates: the mean accuracy of each, with an interval for images and seeds.
        pairs: all pairs.
        seed_variance: the one that settings with a single run are taken to have; None if no
            setting has several runs: the noise of seeds isn't known then, nor part of any interval.
        ranks: the best and the worst rank that each may have. By Holm's adjustment all of these
            ranges hold at once, with the given confidence (as in Mogstad et al., 2024).
        ties: first and last rank of each group of neighbours none of which can be told apart.
    """

    scores: dict[str, ReplicatedScores]
    estimates: dict[str, Estimate]
    pairs: list[SettingsPair]
    seed_variance: SeedVariance | None
    ranks: dict[str, tuple[int, int]]
    ties: list[tuple[int, int]]


def compare_settings(
    runs: Mapping[str, Floats], clusters: Integers, confidence: float
) -> SettingsComparison:
    """Compare the mean accuracies of all pairs of settings.

    Args:
        runs: name → [n, S] the accuracy of each test row in each of its runs; n is the same for
            all, S needn't be.
        clusters: [n] the number of each row's image.
        confidence: e.g. 0.95.
    """
    scores = {name: ReplicatedScores.from_scores(s, clusters) for name, s in runs.items()}
    order = sorted(scores, key=lambda name: -scores[name].mean)
    pooled = pool_variances([s.variance for s in scores.values() if s.variance is not None])
    names = list(combinations(order, 2))
    estimates = [difference_estimate(scores[a], scores[b], confidence, pooled) for a, b in names]
    adjusted = holm([estimate.p for estimate in estimates])
    pairs = [
        SettingsPair(a, b, estimate, p, bool(p < 1 - confidence))
        for (a, b), estimate, p in zip(names, estimates, adjusted, strict=True)
    ]
    return SettingsComparison(
        scores={name: scores[name] for name in order},
        estimates={name: mean_estimate(scores[name], confidence, pooled) for name in order},
        pairs=pairs,
        seed_variance=pooled,
        ranks=_ranks(order, pairs),
        ties=_ties(order, pairs),
    )


def _ranks(order: Sequence[str], pairs: Sequence[SettingsPair]) -> dict[str, tuple[int, int]]:
    """The ranks that each name may have: certainly better ones are above it, worse ones below."""
    best, worst = dict.fromkeys(order, 1), dict.fromkeys(order, len(order))
    for pair in pairs:
        if pair.distinguishable:
            best[pair.b] += 1
            worst[pair.a] -= 1
    return {name: (best[name], worst[name]) for name in order}


def _ties(order: Sequence[str], pairs: Sequence[SettingsPair]) -> list[tuple[int, int]]:
    """The longest groups of neighbours, by rank, that contain no certain difference."""
    certain = {(pair.a, pair.b) for pair in pairs if pair.distinguishable}
    ties: list[tuple[int, int]] = []
    for first in range(len(order)):
        last = first
        while last + 1 < len(order) and not any(
            (order[i], order[last + 1]) in certain for i in range(first, last + 1)
        ):
            last += 1
        if last > first and not (ties and ties[-1][1] >= last + 1):
            ties.append((first + 1, last + 1))
    return ties
