"""Which accuracies don't compare with the others, in words: see `core.circularity`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from abo_vqa.core.circularity import Part, circular_models
from abo_vqa.core.config import Config
from abo_vqa.core.verify_config import BLIND_VERIFIER
from abo_vqa.reporting.formatting import MARK, enumeration, percent, unmarked_label, verifier_label


def marked_models(
    config: Config, models: Iterable[str], verification: Mapping[str, Any]
) -> dict[str, Part]:
    """Return the models whose accuracy the filters or the annotator have changed.

    Args:
        config: the settings.
        models: those that are scored.
        verification: the content of data/verification.json.
    """
    filters = verification.get("filtered_by", {})
    verifiers = verification.get("verifiers", {}) if "min_agreement" in filters else {}
    return circular_models(config, models, verifiers, capped="blind_share" in filters)


def circularity_notes(
    parts: Mapping[str, Part], verification: Mapping[str, Any], mark: str = f"{MARK} "
) -> list[str]:
    """Return a footnote for each reason why models are marked.

    Args:
        parts: see `marked_models`.
        verification: the content of data/verification.json.
        mark: what each begins with.
    """
    return [
        f"{mark}{_names(marked)}: {_reason(part, verification)}"
        for part in Part
        if (marked := [model for model in parts if parts[model] is part])
    ]


def _names(models: Iterable[str]) -> str:
    return enumeration([unmarked_label(model) for model in models])


def _reason(part: Part, verification: Mapping[str, Any]) -> str:
    if part is Part.CAP:
        return (
            "a cap on what can be answered without the image left out pairs that a blind predictor "
            "gets right (verify.blind_share), so the accuracy is too low, and every gain over "
            f"blind too high.{_before(verification, blind=True)}"
        )
    if part is Part.ANNOTATOR:
        return (
            "the same model wrote the questions and answers, so it is right where it repeats its "
            "own mistakes: the accuracy is too high to compare."
        )
    return (
        "the same model, or the model it was fine-tuned from, helped to choose these rows: pairs "
        "with too little agreement were left out (verify.min_agreement), so the accuracy is too "
        f"high to compare.{_before(verification, blind=False)}"
    )


def _before(verification: Mapping[str, Any], *, blind: bool) -> str:
    """Return how many of all pairs each verifier answers alike, before any filter."""
    shares = [
        f"{verifier_label(name)} gives the generated answer to {percent(numbers['agreement'])}"
        for name, numbers in verification.get("verifiers", {}).items()
        if (name == BLIND_VERIFIER) == blind and numbers["agreement"] is not None
    ]
    return f" Of all pairs, before any filter, {enumeration(shares)}." if shares else ""
