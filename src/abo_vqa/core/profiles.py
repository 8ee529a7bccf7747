"""Which sections belong in a profile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

PROFILE_ONLY = ("batch_sizes", "data", "models", "scorers")
"""Sections that only a profile has."""


def misplaced(
    tuned: dict[str, Any], sources: dict[str, Any], params: Path, profile: Path
) -> list[str]:
    """Report sections that are in the wrong file, and remove them from `tuned`.

    Args:
        tuned: the content of params.yaml, changed in place.
        sources: the content of the profile, without its defaults.
        params: the path of the first, for messages.
        profile: the path of the second.

    Returns:
        The problems.
    """
    problems = []
    for key in sorted(set(tuned) & ({*PROFILE_ONLY} | set(sources))):
        if key in PROFILE_ONLY:
            problems.append(f"{key}: found in {params}; it belongs in {profile}")
            del tuned[key]
        else:
            problems.append(f"{key}: set in both {params} and {profile}; keep one")
    return problems
