"""How much of the test set can be right at most, in words (`evaluation.ceiling`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from abo_vqa.core.units import format_level
from abo_vqa.reporting.formatting import count, interval_text, percent

NOT_MEASURED = (
    "The accuracy ceiling isn't known: nobody has reviewed the answers yet "
    "(abo-vqa generate --review page.html writes a page for it)."
)


def ceiling_note(ceiling: Mapping[str, Any] | None) -> str:
    """Return what belongs to the name of a column of accuracies: "at most about 91%", or "".

    Args:
        ceiling: `ceiling` of evaluation.json, None if there is none.
    """
    return f"at most about {percent(ceiling['accuracy'], 0)}" if ceiling else ""


def ceiling_caption(ceiling: Mapping[str, Any] | None) -> str:
    """Return a sentence for any table of accuracies, or "".

    Args:
        ceiling: `ceiling` of evaluation.json, None if there is none.
    """
    note = ceiling_note(ceiling)
    return f"{note[0].upper()}{note[1:]} of all test rows can be right." if note else ""


def ceiling_sentence(
    ceiling: Mapping[str, Any] | None, reviews: Mapping[str, Any] | None = None
) -> str:
    """Return the ceiling with its interval and what it rests on, or why there is none.

    Args:
        ceiling: `ceiling` of evaluation.json, None if there is none.
        reviews: `reviews` of data/verification.json, None if nobody has reviewed the answers.
    """
    if not ceiling:
        return _not_measured(reviews)
    wrong, raters = ceiling["wrong"], ceiling["raters"]
    level = format_level(ceiling["confidence"])
    people = "person" if raters == 1 else "people"
    kept = " and the filters keep" if ceiling["left_out"] else ""
    suspicious = ceiling.get("suspicious")
    drawn = " drawn at random" if suspicious else ""
    return (
        f"At most about {percent(ceiling['accuracy'])} can be right ({level} interval "
        f"{interval_text((ceiling['low'], ceiling['high']))}): of {count(ceiling['pairs'])} pairs"
        f"{drawn} that {raters} {people} reviewed{kept}, {percent(wrong['share'])} were wrong "
        f"({level} interval {interval_text((wrong['low'], wrong['high']))})"
        f"{_found_among_suspicious(ceiling) if suspicious else ''}.{_skipped(ceiling)}"
    )


def _skipped(ceiling: Mapping[str, Any]) -> str:
    """Return how many pairs are missing from the random sample, as a sentence, or ""."""
    skipped = ceiling.get("skipped")
    if not skipped:
        return ""
    return (
        f" {count(skipped)} pairs of the same images have no decision: people skipped them, or the "
        "filters left them out when the page was written. If these are wrong more often than the "
        "others, less can be right."
    )


def _found_among_suspicious(ceiling: Mapping[str, Any]) -> str:
    """Return how many mistakes aren't in the set any more, as the end of a sentence."""
    suspicious, share = ceiling["suspicious"], ceiling["remaining"]["share"]
    return (
        f"; so were {suspicious['wrong']:g} of {count(suspicious['pairs'])} suspicious pairs, "
        f"which leaves about {percent(share)} wrong answers in the rows that nobody reviewed"
    )


def review_extent(generation: Mapping[str, Any]) -> str:
    """Return what people have reviewed: "a sample", only "suspicious pairs", or "" for nothing.

    Args:
        generation: the content of data/generate.json.
    """
    reviews = generation.get("reviews")
    if not reviews:
        return ""
    return "a sample" if reviews.get("random", reviews)["pairs"] else "suspicious pairs"


def _not_measured(reviews: Mapping[str, Any] | None) -> str:
    if not reviews:
        return NOT_MEASURED
    start = "The accuracy ceiling isn't known: "
    suspicious = reviews.get("suspicious")
    if suspicious and not reviews["pairs"] + reviews["left_out"]:
        reviewed = count(suspicious["pairs"] + suspicious["left_out"])
        return (
            f"{start}people have reviewed {reviewed} pairs, all of them because they are "
            "suspicious, and these don't tell how many of the other answers are wrong "
            "(abo-vqa generate --review page.html writes a page of random pairs)."
        )
    drawn = " drawn at random" if suspicious else ""
    return (
        f"{start}the filters keep none of the {count(reviews['left_out'])} pairs{drawn} that "
        "people reviewed (abo-vqa generate --review page.html writes a page of others)."
    )
