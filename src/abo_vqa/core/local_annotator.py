"""Which models of the profile can be `generate.model` with `generate.annotator: local`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LOCAL = "local"
"""The annotator that is a model of the profile, in this process."""
# The others pick from given answers, or were trained for short answers to short prompts.
_WRITERS = ("chat", "llava")


def check_local_annotator(settings: Mapping[str, Any]) -> list[str]:
    """Check that a local annotator is a model that follows instructions.

    Args:
        settings: all settings as read.

    Returns:
        What is wrong: there is no such model, its family can't write, or batch jobs are asked for.
    """
    generate, models = settings.get("generate"), settings.get("models")
    if not (isinstance(generate, dict) and isinstance(models, dict)):
        return []  # reported as missing, or of a wrong type
    if generate.get("annotator") != LOCAL:
        return []
    problems = []
    families = {
        name: entry.get("family") for name, entry in models.items() if isinstance(entry, dict)
    }
    name = generate.get("model")
    if (family := families.get(name)) not in _WRITERS:
        reason = f"models of the family {family} only answer questions here" if family else ""
        allowed = ", ".join(n for n, family in families.items() if family in _WRITERS)
        problems.append(
            f"generate.model: found {name!r}; {reason or 'the profile has no model of this name'}. "
            f"With annotator: {LOCAL}, one that follows instructions (family: "
            f"{' or '.join(_WRITERS)}): {allowed or 'there is none, add one under models'}"
        )
    if generate.get("batch"):
        problems.append(
            f"generate.batch: found true, and annotator: {LOCAL} has no batch jobs; set it to false"
        )
    return problems
