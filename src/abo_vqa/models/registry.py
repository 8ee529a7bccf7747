"""Models by name, and their families' classes; loads neither torch nor transformers."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from abo_vqa.core.errors import UserError
from abo_vqa.core.local_annotator import LOCAL
from abo_vqa.models.candidates import CLIP, REGIMES
from abo_vqa.models.identity import weights_record

if TYPE_CHECKING:
    from abo_vqa.core.config import CheckpointConfig, Config, Family
    from abo_vqa.models.base import VQAModel

BLIND_MODEL = "blind"
"""The name of the baselines that never see an image."""
STUDY_MODELS = ("blip", "blip2", *REGIMES, "llava", "vilt")
"""The models of the study, which every profile has."""

FAMILIES: Mapping[Family, str] = MappingProxyType(
    {
        "blip": "abo_vqa.models.blip.model:Blip",
        "blip2": "abo_vqa.models.blip2:Blip2",
        "chat": "abo_vqa.models.chat:Chat",
        "clip": "abo_vqa.models.clip.model:Clip",
        "endpoint": "abo_vqa.models.endpoint.model:Endpoint",
        "llava": "abo_vqa.models.llava:Llava",
        "prefix": "abo_vqa.models.prefix:Prefix",
        "vilt": "abo_vqa.models.vilt:Vilt",
    }
)
"""Family, as in `models.<name>.family` of a profile → "module:class"."""


def family_class(checkpoint: CheckpointConfig) -> Any:
    """Import the class of a checkpoint's family, and with it torch and transformers.

    Args:
        checkpoint: the settings of a model in the profile.

    Returns:
        A subclass of `VQAModel` with a class method `load`.
    """
    assert checkpoint.family is not None, "load_config fills it in"
    module, _, name = FAMILIES[checkpoint.family].partition(":")
    return getattr(importlib.import_module(module), name)


def model_names(config: Config) -> list[str]:
    """Return the names of all models in the settings: the profile's, CLIP once per regime."""
    names: list[str] = []
    for key, _ in config.models:
        names += REGIMES if key == CLIP else [key]
    return names


def checkpoint_key(name: str) -> str:
    """Return the key under `models` of the checkpoint that a model uses."""
    return CLIP if name in REGIMES else name


def checkpoint_of(name: str, config: Config) -> CheckpointConfig:
    """Return the settings of a model's checkpoint.

    Args:
        name: the model's name, or a key under `models`.
        config: the settings.

    Raises:
        UserError: the profile doesn't have it.
    """
    checkpoint: CheckpointConfig | None = getattr(config.models, checkpoint_key(name), None)
    if checkpoint is None:
        raise _unknown_model(name, config)
    return checkpoint


def local_annotator(config: Config) -> dict[str, str]:
    """Return what tells a local annotator from others; {} if the annotator is no local model.

    Args:
        config: the settings.
    """
    if config.generate.annotator != LOCAL:
        return {}
    name = config.generate.model
    return {"name": name, **weights_record(checkpoint_of(name, config), config.compute)}


def require_model(name: str, config: Config, others: Sequence[str] = ()) -> None:
    """Refuse a name that no model has.

    Args:
        name: the name.
        config: the settings.
        others: names that are accepted as well.

    Raises:
        UserError: no model is called so; the message says which names there are.
    """
    if name not in (*model_names(config), *others):
        raise _unknown_model(name, config, others)


def _unknown_model(name: str, config: Config, others: Sequence[str] = ()) -> UserError:
    return UserError(f"no model is called {name!r}. {suggestion(name, config, others)}")


def suggestion(name: str, config: Config, others: Sequence[str] = ()) -> str:
    """Return which model a wrong name may stand for, or which models there are.

    Args:
        name: the wrong name.
        config: the settings.
        others: names that are accepted as well.
    """
    known = [*model_names(config), *others]
    if name == CLIP:
        return f"Its variants are {', '.join(REGIMES)}."
    if name.partition("-")[0] == BLIND_MODEL:
        return (
            "A blind baseline is fitted on training rows: `abo-vqa benchmark` and the page have it."
        )
    if close := get_close_matches(name, known, n=1):
        return f"Did you mean {close[0]}?"
    return (
        f"There are: {', '.join(known)}. conf/profiles/{config.profile}.yaml defines no weights "
        f"for {name}: to use it, add `{name}: {{family: …, path: …}}` under models."
    )


def load_model(name: str, config: Config, **options: Any) -> VQAModel:
    """Load a model with the weights that the profile names.

    Args:
        name: the model's name.
        config: the settings.
        options: what the family needs besides its checkpoint: `candidates` (CLIP's answers) or
            `adapter` (a PEFT folder).

    Returns:
        The model in evaluation mode.

    Raises:
        UserError: no model is called so, or its checkpoint can't be loaded.
    """
    require_model(name, config)
    if "adapter" in options:
        options["checkpoint_key"] = checkpoint_key(name)
    return load_checkpoint(checkpoint_of(name, config), config, **options)


def load_checkpoint(checkpoint: CheckpointConfig, config: Config, **options: Any) -> VQAModel:
    """Load a model with given weights.

    Args:
        checkpoint: the weights; an entry under `models` in the profile.
        config: the settings.
        options: see `load_model`.

    Returns:
        The model in evaluation mode.

    Raises:
        UserError: the checkpoint can't be loaded.
    """
    import torch

    torch.set_num_threads(config.threads)
    model: VQAModel = family_class(checkpoint).load(checkpoint, config.compute, **options)
    return model
