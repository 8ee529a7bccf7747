"""What the second opinion says of the set, and what each filter would do to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from abo_vqa.data.pairs import GATE_REASONS
from abo_vqa.reporting.formatting import count, decimal, interval_text, percent, verifier_label

HEADER = (
    "pairs kept if", "pairs", "images", "most frequent answer", "yes among yes/no",
    "bits an answer", "right without the image",
)  # fmt: skip
_FIXED = {
    "before quality gate": "nothing is asked for: all that was written",
    "before reviews": "the quality gate accepts them",
    "none": "people's reviews accept them, too",
    "blind is wrong": "the blind predictor is wrong",
    "at least half agree": "at least half of the models agree",
    "all agree": "all models agree",
    "answered": "at least one model has answered",
    "in use": "the settings ask for it (this set)",
}


_NOTE = (
    "Each line is a filter alone, applied to all generated pairs; a model that couldn't answer "
    "counts against no pair. The blind predictor is fitted on what the filter leaves, but not on "
    "the image, its look-alikes or their questions; its interval is over images, in percent."
)


def filter_rows(verification: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return a row for each filter: its name, size, balance, and blind accuracy.

    Args:
        verification: the content of data/verification.json.
    """
    return [
        (
            _filter_label(name),
            count(effect["pairs"]),
            count(effect["images"]),
            percent(effect["top_answer_share"]),
            _share(effect["yes_share"]),
            decimal(effect["answer_bits"]),
            _blind_cell(effect),
        )
        for name, effect in verification.get("filters", {}).items()
    ]


def filter_table(verification: Mapping[str, Any]) -> dict[str, Any]:
    """Return the header and rows of the table of filters and a note on it, for the templates.

    Args:
        verification: the content of data/verification.json.
    """
    note = _NOTE
    if share := verification.get("blind_sample"):
        note += (
            f" Since there are many pairs, it has answered in every line only those about the same "
            f"{percent(share, 0)} of the images."
        )
    return {"header": HEADER, "rows": filter_rows(verification), "note": note}


def second_opinion(verification: Mapping[str, Any], generation: Mapping[str, Any]) -> str:
    """Return in words who was asked and what was left out before.

    Args:
        verification: the content of data/verification.json.
        generation: that of data/generate.json.
    """
    verifiers = verification.get("verifiers", {})
    if not verifiers:
        return "Nobody was asked for a second opinion (verify.models is empty)."
    opinions = []
    for name, numbers in verifiers.items():
        text = "has no answer" if numbers["agreement"] is None else (
            f"gives the generated answer to {percent(numbers['agreement'])} of the questions"
        )  # fmt: skip
        failed = f" ({count(numbers['failed'])} not answered)" if numbers["failed"] else ""
        opinions.append(f"{verifier_label(name)} {text}{failed}")
    unanswered = verification.get("unanswered")
    nobody = (
        f" {count(unanswered)} of the {count(verification['kept'])} pairs in the set were answered "
        "by no model, so no filter holds anything against them."
    ) if unanswered else ""  # fmt: skip
    return f"{'; '.join(opinions)}.{nobody}{_earlier(generation)}"


def _earlier(generation: Mapping[str, Any]) -> str:
    """Return what the quality gate and people left out before, as sentences."""
    reasons = generation.get("rejected", {})
    by_gate = sum(n for reason, n in reasons.items() if reason in GATE_REASONS)
    reviews = generation.get("reviews", {})
    texts = [f" Before, the quality gate had rejected {count(by_gate)} pairs."] if by_gate else []
    if reviews:
        at_random = reviews.get("random", reviews)["pairs"]
        suspicious = reviews["pairs"] - at_random
        why = f" ({count(suspicious)} because they are suspicious)" if suspicious else ""
        texts.append(
            f" Of {count(reviews['pairs'])} pairs that people reviewed{why}, they rejected "
            f"{count(reviews['rejected'])} and corrected {count(reviews['corrected'])}."
        )
    return "".join(texts)


def _filter_label(name: str) -> str:
    if name in _FIXED:
        return _FIXED[name]
    if name.startswith("blind share "):
        share = percent(float(name.removeprefix("blind share ")), 0)
        return f"at most {share} are right without the image"
    return f"{verifier_label(name.removesuffix(' agrees'))} agrees"


def _blind_cell(effect: Mapping[str, Any]) -> str:
    accuracy = _share(effect["blind_accuracy"])
    bounds = effect.get("blind_interval")
    return f"{accuracy} ({interval_text(bounds)})" if bounds else accuracy


def _share(value: float | None) -> str:
    return "–" if value is None else percent(value)
