"""The counts in data/verification.json, and their one-line summary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from abo_vqa.core.paths import VERIFICATION, VQA
from abo_vqa.core.verify_config import BLIND_VERIFIER

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray


def verifier_counts(by_verifier: Mapping[str, pd.Series]) -> dict[str, dict[str, Any]]:
    """Return how far each verifier agrees, and how many questions it couldn't answer.

    Args:
        by_verifier: see `agreement.agreements`.

    Returns:
        Verifier → agreement (None without any answer), failed.
    """
    return {
        name: {
            "agreement": round(float(agrees.mean()), 4) if agrees.notna().any() else None,
            "failed": int(agrees.isna().sum()),
        }
        for name, agrees in by_verifier.items()
    }


def unanswered_count(
    shares: NDArray[np.float64], by_verifier: Mapping[str, pd.Series]
) -> dict[str, int]:
    """Count the kept pairs that no model could answer, which no filter holds against them.

    Args:
        shares: [n] the agreement of the kept pairs; NaN where nobody answered.
        by_verifier: see `agreement.agreements`.

    Returns:
        `unanswered`; {} if no model that sees the image was asked.
    """
    if set(by_verifier) <= {BLIND_VERIFIER}:
        return {}
    return {"unanswered": int(np.isnan(shares).sum())}


def verification_summary(record: Mapping[str, Any]) -> str:
    """Return the counts, and what is to be known about them, for the terminal.

    Args:
        record: the content of data/verification.json.
    """
    parts = []
    for name, numbers in record.get("verifiers", {}).items():
        agreement = numbers["agreement"]
        text = "no answers" if agreement is None else f"agrees with {agreement:.1%}"
        failed = f" ({numbers['failed']:,} not answered)" if numbers["failed"] else ""
        parts.append(f"{name} {text}{failed}")
    opinions = "; ".join(parts) or "nobody was asked for a second opinion"
    lines = [f"{record['kept']:,} of {record['pairs']:,} pairs → {VQA}: {opinions}"]
    if unanswered := record.get("unanswered"):
        lines.append(
            f"warning: {unanswered:,} of the {record['kept']:,} kept pairs were answered by no "
            "model, so they are as nobody has checked them"
        )
    return "\n".join([*lines, *_weak_filter_warnings(record)])


def _weak_filter_warnings(record: Mapping[str, Any]) -> list[str]:
    """Return warnings of verifiers that can't judge the set, and of filters that leave little."""
    opinions = {name: own["agreement"] for name, own in record.get("verifiers", {}).items()}
    blind = opinions.pop(BLIND_VERIFIER, None)
    warnings = [
        f"warning: {name} gives the generated answer less often ({agreement:.1%}) than "
        f"{BLIND_VERIFIER}, which sees no image ({blind:.1%}): its agreement says little about "
        "whether an answer is right"
        for name, agreement in opinions.items()
        if agreement is not None and blind is not None and agreement < blind
    ]
    if 2 * record["kept"] < record["pairs"]:
        warnings.append(
            f"warning: the filters leave {record['kept'] / record['pairs']:.0%} of the pairs. Is "
            f"that meant? `filters` in {VERIFICATION} has what each leaves; a lower "
            "verify.min_agreement or a higher verify.blind_share leaves more"
        )
    return warnings
