"""A review of an annotator's rows, and what the filters then keep, as the stages make them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from abo_vqa.annotate.annotations import Annotations
from abo_vqa.annotate.corrections import apply_reviews
from abo_vqa.annotate.reviews import Judgement, Reviews
from abo_vqa.annotate.verification.agreement import agreements, mean_agreement
from abo_vqa.annotate.verification.asked import asked_rows
from abo_vqa.annotate.verification.filtered import FilteredTable
from abo_vqa.annotate.verification.filters import kept_rows, reviewed_rows
from abo_vqa.annotate.verification.reviewed import passing_reviewed, review_counts
from abo_vqa.core.verify_config import VerifyConfig
from abo_vqa.data.normalise import same_answer
from abo_vqa.data.pairs import REVIEW, pair_key

KEEP, REJECT = Judgement("keep"), Judgement("reject")


def matches(prediction: str, reference: str) -> float:
    return float(same_answer(prediction, reference))


def page_pairs(page: Path) -> list[tuple[str, str, str]]:
    """The pairs on a page, in its order."""
    (data,) = re.findall(r'id="data">(.*?)</script>', page.read_text(encoding="utf-8"))
    return [tuple(pair) for pair in json.loads(data)["pairs"]]


def review(pairs: Sequence[dict[str, str]], reviews: Reviews) -> tuple[Annotations, dict[str, Any]]:
    """The annotator's rows after a review, as the stage generate makes them, and the counts."""
    rejected = {pair for pair, v in reviews.verdicts().items() if v.decision == "reject"}
    annotations = Annotations(len(pairs))
    for pair in pairs:
        if pair_key(*pair.values()) in rejected:
            annotations.rejects.append({**pair, "reason": REVIEW})
        else:
            annotations.rows.append(dict(pair))
    counts = apply_reviews(annotations, reviews)
    return annotations, counts


def verify(
    annotations: Annotations, settings: VerifyConfig, **verifiers: str | Mapping[str, str]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The kept rows and the review's counts; a verifier's answer to all, or image → answer."""
    table = pd.DataFrame(annotations.rows)
    reviewed = pd.DataFrame(annotations.reviewed)
    asked = asked_rows(table, reviewed)
    answers = {}
    for name, given in verifiers.items():
        prediction = given if isinstance(given, str) else asked["image_path"].map(given)
        answers[name] = pd.DataFrame({"prediction": prediction, "error": [""] * len(asked)})
    own = {name: given.head(len(table)) for name, given in answers.items()}
    by_verifier = agreements(table, own, matches)
    shares = mean_agreement(by_verifier)
    kept = kept_rows(table, shares, by_verifier, settings, 1)
    filtered = FilteredTable(table, by_verifier, shares, kept)
    passes = passing_reviewed(reviewed, asked, answers, matches, filtered, settings, 1)
    unreviewed = table[kept & ~reviewed_rows(table)]
    return table[kept], review_counts(reviewed, passes, unreviewed)["reviews"]
