"""What a profile may say: which sections belong in it, and which settings fit a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_PROFILE_ONLY = ("batch_sizes", "data", "models", "scorers")  # sections


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
    for key in sorted(set(tuned) & ({*_PROFILE_ONLY} | set(sources))):
        if key in _PROFILE_ONLY:
            problems.append(f"{key}: found in {params}; it belongs in {profile}")
            del tuned[key]
        else:
            problems.append(f"{key}: set in both {params} and {profile}; keep one")
    return problems


def undecodable_models(sources: dict[str, Any]) -> list[str]:
    """Report models whose family can't do what `models.<name>.decoding` asks for.

    Args:
        sources: the content of the profile.

    Returns:
        The problems.
    """
    models = sources.get("models")
    return [
        f"models.{name}.decoding: found 'ranked'; clip always ranks, among the candidates of "
        "clip-fixed, clip-train or clip-all: remove the setting"
        for name, entry in (models.items() if isinstance(models, dict) else ())
        if isinstance(entry, dict)
        and (entry.get("family"), entry.get("decoding")) == ("clip", "ranked")
    ]
