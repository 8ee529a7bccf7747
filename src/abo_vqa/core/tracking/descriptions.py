"""The texts by which runs are known in MLflow's browser."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from abo_vqa.core.config import Config
    from abo_vqa.core.tracking.origin import Invocation


def source_tags(command: str) -> dict[str, str]:
    """Return what MLflow's table shows as a run's source.

    Args:
        command: as it was typed.
    """
    return {"mlflow.source.name": command, "mlflow.source.type": "LOCAL"}


def changed_tag(changed: Mapping[str, str]) -> dict[str, str]:
    """Return the tag with the settings that differ from the commit's.

    Args:
        changed: as `origin.changed_settings` returns them.
    """
    return {"abo_vqa.changed": ", ".join(f"{k}={v}" for k, v in changed.items())} if changed else {}


def parent_note(
    config: Config, started: Invocation, git: Mapping[str, str], changed: Mapping[str, str]
) -> Iterator[str]:
    """Write the first lines of an invocation's description; each stage adds its own.

    Args:
        config: the settings.
        started: what the user started.
        git: tags of the commit.
        changed: the settings that differ from the commit's.

    Yields:
        The lines.
    """
    commit = git.get("mlflow.source.git.commit", "")[:7]
    dirty = ", with uncommitted changes" if git.get("mlflow.source.git.dirty") == "true" else ""
    yield f"`{started.command}`, profile {config.profile}, seed {config.seed}" + (
        f", commit {commit}{dirty}" if commit else ""
    )
    if changed:
        listed = ", ".join(f"`{key}` {value}" for key, value in changed.items())
        yield f"\nSettings that differ from the commit's: {listed}\n"
