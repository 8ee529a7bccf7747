"""The counts in data/verification.json, and their one-line summary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from abo_vqa.core.paths import VQA

if TYPE_CHECKING:
    import pandas as pd


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


def verification_summary(record: Mapping[str, Any]) -> str:
    """Return the counts in one line, for the terminal.

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
    return f"{record['kept']:,} of {record['pairs']:,} pairs → {VQA}: {opinions}"
