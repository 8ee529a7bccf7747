"""What `generate.annotator` asks of other settings: of the model, and of batch jobs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from abo_vqa.core.paths import SAMPLE_MODELS

LOCAL = "local"
"""The annotator that is a model of the profile, in this process."""
# The others pick from given answers, or were trained for short answers to short prompts.
_WRITERS = ("chat", "llava")
_WITHOUT_BATCH_JOBS = {
    LOCAL: "set it to false",
    "gemini-legacy": "set it to false, or annotator to gemini",
}


def check_annotator(settings: Mapping[str, Any]) -> list[str]:
    """Check that the annotator can do what other settings ask for.

    Args:
        settings: all settings as read.

    Returns:
        What is wrong: a local annotator that isn't a model of the profile, or whose family can't
        write; batch jobs where there are none.
    """
    generate, models = settings.get("generate"), settings.get("models")
    if not (isinstance(generate, dict) and isinstance(models, dict)):
        return []  # reported as missing, or of a wrong type
    annotator = generate.get("annotator")
    problems = _local_model_problems(generate.get("model"), models) if annotator == LOCAL else []
    if generate.get("batch") and annotator in _WITHOUT_BATCH_JOBS:
        problems.append(
            f"generate.batch: found true, and annotator: {annotator} has no batch jobs; "
            f"{_WITHOUT_BATCH_JOBS[annotator]}"
        )
    return problems


def _local_model_problems(name: Any, models: Mapping[str, Any]) -> list[str]:
    families = {
        name: entry.get("family") for name, entry in models.items() if isinstance(entry, dict)
    }
    family = families.get(name)
    if family in _WRITERS:
        return []
    reason = "the profile has no model of this name"
    if family == "endpoint":
        reason = "it is behind an API: set annotator to its protocol, and model to its name there"
    elif family:
        reason = f"models of the family {family} only answer questions here"
    writers = [n for n, family in families.items() if family in _WRITERS]
    usable = [n for n in writers if not _is_the_samples(models[n])]
    small = "; the sample's own are too small to hold the prompt" if usable != writers else ""
    return [
        f"generate.model: found {name!r}; {reason}. With annotator: {LOCAL}, one that follows "
        f"instructions (family: {' or '.join(_WRITERS)}): "
        f"{', '.join(usable) or 'there is none, add one under models'}{small}"
    ]


def _is_the_samples(entry: Mapping[str, Any]) -> bool:
    """Whether a model is one of the sample's checkpoints, which have room for a question only."""
    return Path(str(entry.get("path"))).is_relative_to(SAMPLE_MODELS)
