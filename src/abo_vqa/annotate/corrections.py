"""What people decided, carried into the table: corrected answers, provenance, counts."""

from __future__ import annotations

from collections import Counter
from itertools import chain
from typing import Any

from abo_vqa.annotate.annotations import Annotations
from abo_vqa.annotate.draws import DRAWN_COLUMN, RANDOM, SUSPICIOUS
from abo_vqa.annotate.reviews import CORRECT, KEEP, REJECT, Reviews, Verdict
from abo_vqa.core.row_list import RowList
from abo_vqa.data.pairs import CORRECTED, REVIEW, PairKey, pair_key

REVIEWED_COLUMN = "reviewed"
"""keep or corrected for a pair that people decided about, else ""; without reviews no column."""
_STATES = {KEEP: "keep", CORRECT: CORRECTED}


def apply_reviews(annotations: Annotations, reviews: Reviews) -> dict[str, Any]:
    """Correct answers and say of each row whether people decided about it.

    Rejected pairs have left the table before: the quality filter knows them.

    Args:
        annotations: its rows change; it gets the answers that are replaced, the pairs that people
            decided about as they were written, and notes about pairs that don't count.
        reviews: what people decided.

    Returns:
        The counts for data/generate.json; {} without reviews.
    """
    verdicts = reviews.verdicts()
    if not verdicts:
        return {}
    rejected = [row for row in annotations.rejects if row["reason"] == REVIEW]
    # What people kept of an image that has lost too many pairs was reviewed like the rest.
    written = chain(annotations.rows, rejected, annotations.incomplete)
    present = {key: _texts(row) for row in written if (key := _key(row)) in verdicts}
    decided = RowList()
    for row in annotations.rows:
        verdict = verdicts.get(_key(row))
        state = _STATES[verdict.decision] if verdict else row.get(REVIEWED_COLUMN, "")
        row[REVIEWED_COLUMN] = state
        if verdict and verdict.decision == CORRECT:
            annotations.replaced.append({**_texts(row), "reason": CORRECTED})
            row["answer"] = verdict.corrected
        decided.append(row)
    annotations.rows = decided
    current = {pair: verdicts[pair] for pair in present}
    annotations.reviewed = [
        {
            **texts,
            "wrong": f"{verdicts[pair].wrong:g}",
            DRAWN_COLUMN: SUSPICIOUS if pair in reviews.suspicious else RANDOM,
        }
        for pair, texts in sorted(present.items())
    ]
    others = reviews.judgements.keys() - current.keys() - reviews.corrected_pairs(current)
    counts = _counts(reviews, current, len(others))
    annotations.notes += [*_notes(counts), *reviews.notes]
    if others:
        annotations.notes.append(
            f"warning: {len(others):,} reviewed pairs aren't in this table, so what was decided "
            f"about them doesn't count ({reviews.describe_sources(others)})"
        )
    return counts


def _key(row: dict[str, str]) -> PairKey:
    return pair_key(row["image_path"], row["question"], row["answer"])


def _texts(row: dict[str, str]) -> dict[str, str]:
    return {name: row[name] for name in ("image_path", "question", "answer")}


def _counts(reviews: Reviews, current: dict[PairKey, Verdict], others: int) -> dict[str, Any]:
    """Count the verdicts about pairs as this table's annotator wrote them."""
    decisions = Counter(verdict.decision for verdict in current.values())
    at_random = current.keys() - reviews.suspicious
    random_counts = {"pairs": len(at_random), "raters": len(reviews.raters_of(at_random))}
    return {
        "raters": len(reviews.raters_of(current)),
        "pairs": len(current),
        "kept": decisions[KEEP],
        "corrected": decisions[CORRECT],
        "rejected": decisions[REJECT],
        "undecided": sum(verdict.wrong == 0.5 for verdict in current.values()),
        "other_pairs": others,
        **({"random": random_counts} if len(at_random) < len(current) else {}),
    }


def _notes(counts: dict[str, Any]) -> list[str]:
    """Return what a person should know about the reviews."""
    notes = [
        f"reviews: {counts['pairs']:,} pairs by {counts['raters']} rater(s): {counts['kept']:,} "
        f"kept, {counts['corrected']:,} corrected, {counts['rejected']:,} rejected"
    ]
    if counts["undecided"]:
        notes[0] += f" ({counts['undecided']:,} because the raters were split evenly)"
    if "random" in counts:
        suspicious = counts["pairs"] - counts["random"]["pairs"]
        notes.append(
            f"{suspicious:,} of these pairs were drawn because they are suspicious: the share of "
            "wrong answers is estimated without them"
        )
    return notes
