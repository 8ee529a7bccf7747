"""Weights that are missing from a folder: why, and how to get them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from abo_vqa.commands.doctor.files import pinned
from abo_vqa.commands.doctor.findings import Checkout, Finding, problem
from abo_vqa.core.paths import SAMPLE_MODELS
from abo_vqa.models.hub import is_repository

if TYPE_CHECKING:
    from abo_vqa.core.config import CheckpointConfig, ScorerConfig


def missing_weights(
    name: str, source: CheckpointConfig | ScorerConfig, missing: Sequence[str], case: Checkout
) -> Finding:
    """Report what is wrong with a folder's weights.

    Args:
        name: the model's or scorer's name.
        source: its settings.
        case: the checkout.
        missing: files that the weights' index names and the folder lacks.
    """
    path = source.path
    section = "scorers" if name in type(case.settings.scorers).model_fields else "models"
    setting = f"{section}.{name}"
    profile = f"conf/profiles/{case.settings.profile}.yaml"
    if path.startswith("~"):
        message = f'there is no folder {path}: "~" isn\'t expanded'
        return problem(name, message, f"Write {setting}.path in {profile} out: {_expanded(path)}.")
    missing_part = _lacking(path, missing)
    if SAMPLE_MODELS in Path(path).parents:
        return problem(name, missing_part, f"`dvc pull {path}`, or `make sample`.")
    if _tracked(case.root, path):
        return problem(name, missing_part, f"`dvc pull {path}`.")
    if Path(path).is_dir():
        return problem(
            name, missing_part, f"Put them there, or correct {setting}.path in {profile}."
        )
    advice = f"Correct {setting}.path in {profile}"
    if is_repository(path) and "/" in path:
        advice += f"; for a repository of the model hub, set {setting}.revision to a commit of it"
    return problem(name, missing_part, f"{advice}.")


def _lacking(path: str, missing: Sequence[str]) -> str:
    """Say what is missing."""
    if missing:
        return f"{path} lacks {len(missing)} file(s) that its index names, e.g. {missing[0]}"
    return f"no weights in {path}" if Path(path).is_dir() else f"there is no folder {path}"


def _expanded(path: str) -> str:
    """Replace "~" by the user's folder, where that is known."""
    try:
        return str(Path(path).expanduser())
    except RuntimeError:
        return "the whole path"


def _tracked(root: Path, path: str) -> bool:
    """Tell whether DVC can fetch a folder; problems of DVC's own files are another finding."""
    try:
        return pinned(root, Path(path), within=True) is not None
    except Exception:  # of DVC, about a file of its own
        return False
