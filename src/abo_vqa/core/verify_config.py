"""Settings of the second opinion on generated answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from abo_vqa.core.config_base import BaseConfig, Fraction

BLIND_VERIFIER = "blind"
"""The verifier that sees the question alone, fitted on the other images' answers."""
# Their candidates are the answers that are to be verified.
_REFUSED = ("clip-train", "clip-all")


class VerifyConfig(BaseConfig):
    """Who answers the generated questions as well, and which pairs are kept."""

    models: tuple[str, ...]
    min_agreement: Fraction | None
    blind_share: Annotated[float, Field(ge=0, le=1)] | None

    @property
    def filters(self) -> dict[str, float]:
        """The filters that are set, by the setting's name."""
        settings = {"min_agreement": self.min_agreement, "blind_share": self.blind_share}
        return {name: value for name, value in settings.items() if value is not None}


def check_verifiers(settings: Mapping[str, Any]) -> list[str]:
    """Check the names in `verify.models`, and the filters that need one of them.

    Args:
        settings: all settings as read.

    Returns:
        What is wrong.
    """
    verify, models = settings.get("verify"), settings.get("models")
    if not (isinstance(verify, dict) and isinstance(models, dict)):
        return []  # reported as missing, or of a wrong type
    names = verify.get("models")
    if not isinstance(names, list):
        return []
    others = ["clip-fixed"] if "clip" in models else []
    allowed = [*(name for name in models if name != "clip"), *others, BLIND_VERIFIER]
    problems = []
    for name in names:
        if name in _REFUSED:
            reason = "; it chooses among the answers that are to be verified"
            problems.append(_unknown(name, reason, allowed))
        elif name not in allowed:
            problems.append(_unknown(name, "", allowed))
    if len(set(map(str, names))) < len(names):
        problems.append("verify.models: a name is there twice")
    if verify.get("min_agreement") is not None and not set(map(str, names)) - {BLIND_VERIFIER}:
        problems.append("verify.min_agreement: needs a model in verify.models that sees the image")
    if verify.get("blind_share") is not None and BLIND_VERIFIER not in names:
        problems.append(f"verify.blind_share: needs {BLIND_VERIFIER} in verify.models")
    return problems


def _unknown(name: object, reason: str, allowed: list[str]) -> str:
    return f"verify.models: found {name!r}{reason}; allowed: {', '.join(allowed)}"
