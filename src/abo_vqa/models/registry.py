"""Model families by name."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from abo_vqa.core.errors import UserError

if TYPE_CHECKING:
    from abo_vqa.config import Config
    from abo_vqa.models.base import VQAModel


# name: "module:class". The weights are those of `models.<name>` in the profile; what follows a
# hyphen in the name is a variant that shares them.
FAMILIES = {
    "blip": "abo_vqa.models.blip.model:Blip",
    "blip2": "abo_vqa.models.blip2:Blip2",
    "clip-fixed": "abo_vqa.models.clip.model:Clip",
    "clip-train": "abo_vqa.models.clip.model:Clip",
    "clip-all": "abo_vqa.models.clip.model:Clip",
    "llava": "abo_vqa.models.llava:Llava",
    "vilt": "abo_vqa.models.vilt:Vilt",
    "smolvlm": "abo_vqa.models.chat:Chat",
}


def load_model(name: str, config: Config, **options: Any) -> VQAModel:
    """Load the model `name` with the weights that the profile names.

    Args:
        options: what the family needs beside its checkpoint, e.g. `candidates` (CLIP's answers)
            or `adapter` (a PEFT folder for BLIP).
    Raises:
        UserError: no such model, or its checkpoint can't be loaded.
    """
    import torch

    if name not in FAMILIES:
        raise UserError(f"no model is called {name!r}. {meant(name)}")
    torch.set_num_threads(config.threads)
    load: Any = model_class(name).load  # type: ignore[attr-defined]
    model: VQAModel = load(checkpoint_of(name, config), config.compute, **options)
    return model


def model_class(name: str) -> type[VQAModel]:
    """Import the class of a model's family.

    Args:
        name: one of `FAMILIES`.
    """
    module, _, family = FAMILIES[name].partition(":")
    found: type[VQAModel] = getattr(importlib.import_module(module), family)
    return found


def meant(name: str, others: Sequence[str] = ()) -> str:
    """Which models a wrong name may mean, else all that there are.

    Args:
        others: names that are right as well.
    """
    known = [*FAMILIES, *others]
    if variants := [family for family in FAMILIES if weights_key(family) == name]:
        return f"Its variants are {', '.join(variants)}."
    if close := get_close_matches(name, known, n=1):
        return f"Did you mean {close[0]}?"
    return f"There are: {', '.join(known)}."


def weights_key(name: str) -> str:
    """Whose weights a model has, a key of `models`: "clip" for "clip-all"."""
    return name.partition("-")[0]


def checkpoint_of(name: str, config: Config) -> Any:
    """The settings of a model's weights: `models.<name without its variant>` of the profile."""
    key = weights_key(name)
    checkpoint = getattr(config.models, key, None)
    if checkpoint is None:
        raise UserError(
            f"conf/profiles/{config.profile}.yaml names no weights for {name}: "
            f"add `{key}: {{path: …}}` under models."
        )
    return checkpoint
