"""Known mistakes, some of which people find because they are suspicious: the ceiling covers them.

Reviews of suspicious pairs take mistakes out of the set, so the rows that nobody reviewed have a
smaller share of them than the random sample.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from abo_vqa.annotate.reviews import Judgement, Reviews
from abo_vqa.core.verify_config import VerifyConfig
from abo_vqa.data.pairs import PairKey, pair_key
from abo_vqa.evaluation.ceiling import label_noise_ceiling
from tests.support.reviews import KEEP, REJECT, review, verify

SETS, IMAGES, SAMPLED, LISTED = 30, 1000, 150, 150
Pairs = list[dict[str, str]]


def draw(seed: int) -> tuple[Pairs, Reviews]:
    """A set with a tenth of its answers wrong, and both kinds of reviews, which are all right."""
    rng = np.random.default_rng(seed)
    wrong = rng.random(IMAGES) < 0.1
    pairs = [
        {"image_path": f"{i}.jpg", "question": "What is it?", "answer": "wrong" if w else "right"}
        for i, w in enumerate(wrong)
    ]
    sample = rng.permutation(IMAGES)[:SAMPLED]
    suspicion = 2 * wrong + rng.normal(size=IMAGES)
    suspicion[sample] = -np.inf  # a page leaves out what has been reviewed
    listed = np.argsort(-suspicion)[:LISTED]
    judgements: dict[PairKey, dict[str, Judgement]] = {}
    for i in (*sample, *listed):
        decision = KEEP if not wrong[i] else (REJECT if i % 2 else Judgement("correct", "right"))
        judgements[pair_key(*pairs[i].values())] = {"Anna": decision}
    keys = frozenset(pair_key(*pairs[i].values()) for i in listed)
    return pairs, Reviews(judgements, suspicious=keys)


def measure(
    pairs: Pairs, reviews: Reviews, min_agreement: float | None
) -> tuple[dict[str, Any], pd.DataFrame]:
    """The counts of the review, and the rows that the filter keeps."""
    # It gives every second wrong answer, too.
    answers = {
        pair["image_path"]: pair["answer"] if i % 4 < 2 else "right" for i, pair in enumerate(pairs)
    }
    settings = VerifyConfig(models=("blip",), min_agreement=min_agreement, blind_share=None)
    annotations, _ = review(pairs, reviews)
    kept, counts = verify(annotations, settings, blip=answers)
    return counts, kept


@pytest.mark.parametrize("min_agreement", [None, 1.0])
def test_the_interval_covers_the_truth(min_agreement: float | None) -> None:
    """Without the correction, or with all reviews as one sample, it doesn't."""
    covered = dict.fromkeys(("corrected", "sample alone", "all as one sample"), 0)
    errors = []
    for seed in range(SETS):
        pairs, reviews = draw(seed)
        counts, kept = measure(pairs, reviews, min_agreement)
        pooled, _ = measure(pairs, replace(reviews, suspicious=frozenset()), min_agreement)
        truth = float((kept["answer"] == "right").mean())
        ways = zip(covered, (counts, {**counts, "suspicious": None}, pooled), strict=True)
        ceilings = {way: label_noise_ceiling({**c, "raters": 1}, kept, 0.95) for way, c in ways}
        for way, ceiling in ceilings.items():
            covered[way] += ceiling["low"] <= truth <= ceiling["high"]
        errors.append(ceilings["corrected"]["accuracy"] - truth)
    assert covered["corrected"] >= 0.9 * SETS
    assert max(covered["sample alone"], covered["all as one sample"]) <= 0.1 * SETS
    assert abs(np.mean(errors)) < 0.015
