"""The check of models' settings: what loading would refuse, said without loading anything."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

from abo_vqa.commands.doctor.card import usable
from abo_vqa.commands.doctor.findings import Case, Finding, NotCheckedError, ok, problem, warning
from abo_vqa.commands.doctor.weights import sources
from abo_vqa.core.errors import UserError
from abo_vqa.models.answering.dependencies import BLIND
from abo_vqa.models.registry import FAMILIES, checkpoint_of, meant

if TYPE_CHECKING:
    from abo_vqa.config import CheckpointConfig, Config


def model_settings(case: Case) -> Iterator[Finding]:
    """Every setting that a model, or this machine, can't have; one line if there is none."""
    config = case.settings
    found = list(names(config))
    used = sources(config)
    models = [(key, checkpoint) for key, checkpoint in config.models if key in used]
    for key, checkpoint in models:
        found += _quantised(key, checkpoint, config)
        found += spread(key, checkpoint, config)
    if not found:
        of = ", ".join(key for key, _ in models)
        yield ok("model settings", f"nothing to refuse for {of}")
    yield from found


def names(config: Config) -> Iterator[Finding]:
    """`baselines.models`: names that there are, with weights in the profile."""
    for name in dict.fromkeys(config.baselines.models):
        if name == BLIND:
            continue
        if name not in FAMILIES:
            said = f"no model is called {name!r}"
            yield problem(
                "baselines.models", said, f"{meant(name, [BLIND])} Change it in params.yaml."
            )
            continue
        try:
            checkpoint_of(name, config)
        except UserError as error:
            yield problem("baselines.models", str(error), "")


def _quantised(key: str, checkpoint: CheckpointConfig, config: Config) -> Iterator[Finding]:
    """`quantize`, where the family, the packages or the device don't have it."""
    wanted, name = checkpoint.quantize, f"models.{key}"
    if not wanted:
        return
    place = f"{name}.quantize in {where(config)}"
    if key == "clip":
        yield problem(name, f"quantize is {wanted}, for which open_clip has nothing", null(place))
        return
    if find_spec("bitsandbytes") is None:
        advice = f"`pip install 'abo-vqa[quant]'`, or set {place} to null."
        yield problem(name, f"quantize is {wanted}, and bitsandbytes isn't installed", advice)
    try:
        device = usable(config)
    except NotCheckedError:  # that is a finding of its own
        return
    if wanted == "4bit" and device.type != "cuda":
        said = f"quantize is 4bit, which needs a CUDA GPU, and the device is {device}"
        yield problem(name, said, f"Set {place} to 8bit or null.")


def spread(key: str, checkpoint: CheckpointConfig, config: Config) -> Iterator[Finding]:
    """`device_map`, where the family can't be spread over devices."""
    import torch

    wanted, name = checkpoint.device_map, f"models.{key}"
    if not wanted:
        return
    said, place = f"device_map is {wanted}", f"{name}.device_map in {where(config)}"
    if key == "clip":
        yield problem(name, f"{said}, for which open_clip has nothing", null(place))
    elif key == "blip" and torch.cuda.device_count() > 1:
        yield problem(name, f"{said}, and BLIP runs on one device", null(place))
    elif key == "blip":
        advice = f"{null(place)} Where its weights don't fit on one, it isn't loaded."
        yield warning(name, f"{said}, and BLIP runs on one device", advice)


def null(place: str) -> str:
    return f"Set {place} to null."


def where(config: Config) -> str:
    return f"conf/profiles/{config.profile}.yaml"
