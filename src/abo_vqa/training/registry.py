"""Families that can be trained, by name; loads neither torch nor transformers."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from abo_vqa.core.errors import UserError
from abo_vqa.models.registry import checkpoint_of

if TYPE_CHECKING:
    from abo_vqa.core.config import CheckpointConfig, Config

TRAINABLE_FAMILIES: Mapping[str, str] = MappingProxyType(
    {
        "blip": "abo_vqa.training.families.blip:BlipFamily",
        "blip2": "abo_vqa.training.families.causal:CausalFamily",
        "chat": "abo_vqa.training.families.causal:CausalFamily",
        "llava": "abo_vqa.training.families.causal:CausalFamily",
        "prefix": "abo_vqa.training.families.causal:CausalFamily",
    }
)
"""Family, as in `models.<name>.family` of a profile → "module:class"."""


def trained_checkpoint(config: Config) -> CheckpointConfig:
    """Return the settings of the checkpoint that is fine-tuned, `lora.model`'s.

    Args:
        config: the settings.
    """
    return checkpoint_of(config.lora.model, config)


def trainable_family(checkpoint: CheckpointConfig) -> Any:
    """Import the training of a checkpoint's family, and with it torch and transformers.

    Args:
        checkpoint: the settings of a model in the profile.

    Returns:
        A subclass of `TrainableFamily`.

    Raises:
        UserError: the family can't be trained.
    """
    assert checkpoint.family is not None, "load_config fills it in"
    if checkpoint.family not in TRAINABLE_FAMILIES:
        raise UserError(
            f"{checkpoint.path} is of the family {checkpoint.family}, which can't be fine-tuned; "
            f"these can: {', '.join(TRAINABLE_FAMILIES)}. Set lora.model to another model."
        )
    module, _, name = TRAINABLE_FAMILIES[checkpoint.family].partition(":")
    return getattr(importlib.import_module(module), name)
