"""A model with an adapter, loaded from what the model registry stores of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abo_vqa.core.config import CheckpointConfig, ComputeConfig
from abo_vqa.core.errors import UserError
from abo_vqa.models.adapters import Adapter
from abo_vqa.models.registry import family_class

if TYPE_CHECKING:
    from abo_vqa.models.base import VQAModel

_SETTINGS = ("family", "prompt", "answer", "max_new_tokens", "batch_size", "quantize")


def adapted_checkpoint(
    folder: Path, settings: Mapping[str, Any], base: str | None = None
) -> CheckpointConfig:
    """Return the settings of an adapter's base as they were when the adapter was registered.

    Args:
        folder: the PEFT folder.
        settings: what was stored with it; versions before 0.3 stored less.
        base: where the base's weights are; None: where the adapter says.

    Raises:
        UserError: the adapter can't be read, or its family isn't known.
    """
    adapter = Adapter.read(folder)
    if not settings.get("family"):
        raise UserError(
            f"what is stored with the adapter in {folder} doesn't name its base's family; register "
            "it again: `dvc repro --force --single-item finetune`."
        )
    known = {key: settings[key] for key in _SETTINGS if settings.get(key) is not None}
    revision = adapter.revision if base is None else None
    return CheckpointConfig(path=base or adapter.base or "", revision=revision, **known)


def load_adapted(folder: Path, checkpoint: CheckpointConfig, compute: ComputeConfig) -> VQAModel:
    """Load a base with an adapter that was registered for it.

    Args:
        folder: the PEFT folder.
        checkpoint: the base; its path may be a copy elsewhere of the one that the adapter names.
        compute: the device and the number format.

    Returns:
        The model in evaluation mode.

    Raises:
        UserError: the base or the adapter can't be loaded.
    """
    adapter = replace(Adapter.read(folder), base=checkpoint.path)
    model: VQAModel = family_class(checkpoint).load(checkpoint, compute, adapter=adapter)
    return model
