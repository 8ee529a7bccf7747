"""The counts in data/generate.json, and their one-line summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from abo_vqa.annotate import corpus
from abo_vqa.annotate.annotations import Annotations
from abo_vqa.models.registry import local_annotator

if TYPE_CHECKING:
    from abo_vqa.core.config import Config


def count_reasons(reasons: Iterable[str]) -> dict[str, int]:
    """Return how often each reason occurs, most frequent first."""
    counts = Counter(reasons)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def generation_counts(
    config: Config, annotations: Annotations, reviews: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the content of data/generate.json.

    Args:
        config: the seed, and generate's settings.
        annotations: what the annotator made.
        reviews: the counts of reviews (see `corrections.apply_reviews`); {} without reviews.
    """
    rows, flagged = annotations.rows, annotations.flagged
    checked = corpus.check_corpus(rows, config.seed, config.generate.yes_share)
    return {
        **({"model": model} if (model := local_annotator(config)) else {}),
        "images": annotations.images,
        "annotated_images": checked.pop("images"),
        "pairs": len(rows),
        "dropped_images": count_reasons(annotations.dropped),
        "rejected": count_reasons(row["reason"] for row in annotations.rejects),
        **({"kept_in_spite_of": count_reasons(flagged)} if flagged else {}),
        **({"reviews": dict(reviews)} if reviews else {}),
        "kinds": count_reasons(row["question_kind"] for row in rows),
        "corpus": checked,
    }


def generation_summary(counts: dict[str, Any]) -> str:
    """Return the counts in one line, for the terminal."""
    text = f"{counts['pairs']:,} pairs over {counts['annotated_images']:,} images"
    dropped = ", ".join(f"{n:,} {why}" for why, n in counts["dropped_images"].items())
    blind = counts["corpus"]["answerable_without_picture"].values()
    if dropped:
        text += f"; images left out: {dropped}"
    return text + (f"; {max(blind):.1%} can be predicted without the image" if blind else "")
