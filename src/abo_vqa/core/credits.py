"""Whether a profile credits another profile's data for its own, as copies of profiles do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from abo_vqa.core.errors import UserError
from abo_vqa.core.paths import PROFILES
from abo_vqa.core.yaml_files import read_yaml

if TYPE_CHECKING:
    from abo_vqa.core.config import Config


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
        own = Path(config.data.url or config.data.raw)
        if same and Path(str(data.get("raw")).rstrip("/")) != own:
            return (
                f"data.attribution and data.licence of the profile {config.profile} are those of "
                f"{file.name}, and will be published with your data: change them in "
                f"{PROFILES / config.profile}.yaml, with data.name"
            )
    return ""
