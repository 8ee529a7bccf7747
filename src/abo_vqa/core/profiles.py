"""Profiles: which sections belong in them, and whether one credits another's data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from abo_vqa.core.errors import UserError
from abo_vqa.core.paths import PROFILES
from abo_vqa.core.yaml_files import read_yaml

if TYPE_CHECKING:
    from abo_vqa.core.config import Config

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


def credit_warning(config: Config) -> str:
    """Warn that a profile credits another profile's data for its own, as copies of profiles do.

    Args:
        config: the settings, of the checkout in the current folder.

    Returns:
        The warning, in one sentence; "" if there is nothing to warn of.
    """
    for file in sorted(PROFILES.glob("*.yaml")):
        try:
            data = read_yaml(file).get("data")
        except UserError:  # another profile's faults are reported when it is used
            continue
        if not isinstance(data, dict) or file.stem == config.profile:
            continue
        same = (data.get("attribution"), data.get("licence")) == (
            config.data.attribution,
            config.data.licence,
        )
        if same and Path(str(data.get("raw"))) != config.data.raw:
            return (
                f"data.attribution and data.licence of the profile {config.profile} are those of "
                f"{file.name}, and will be published with your data: change them in "
                f"{PROFILES / config.profile}.yaml, with data.name"
            )
    return ""
