"""The check of models' settings: what loading would refuse, said without loading anything."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

from abo_vqa.commands.doctor.findings import (
    Checkout,
    Finding,
    NotCheckedError,
    ok,
    problem,
    warning,
)
from abo_vqa.commands.doctor.gpu import usable
from abo_vqa.commands.doctor.weights import sources
from abo_vqa.models.registry import BLIND_MODEL, model_names, suggestion

if TYPE_CHECKING:
    from abo_vqa.core.config import CheckpointConfig, Config


def model_settings(case: Checkout) -> Iterator[Finding]:
    """Every setting that a model, or this machine, can't have; one line if there is none."""
    config = case.settings
    findings = list(_model_names(config))
    used = sources(config)
    models = [(key, checkpoint) for key, checkpoint in config.models if key in used]
    for key, checkpoint in models:
        findings += _quantised(key, checkpoint, config)
        findings += _spread(key, checkpoint, config)
    if not findings:
        of = ", ".join(key for key, _ in models)
        yield ok("model settings", f"valid for {of}")
    yield from findings


def _model_names(config: Config) -> Iterator[Finding]:
    """`baselines.models`: names that there are, with weights in the profile."""
    for name in dict.fromkeys(config.baselines.models):
        if name == BLIND_MODEL:
            continue
        if name not in model_names(config):
            advice = f"{suggestion(name, config, [BLIND_MODEL])} Change it in params.yaml."
            yield problem("baselines.models", f"no model is called {name!r}", advice)


def _quantised(key: str, checkpoint: CheckpointConfig, config: Config) -> Iterator[Finding]:
    """Check `quantize`: the packages and the device must have it."""
    quantize, name = checkpoint.quantize, f"models.{key}"
    if not quantize:
        return
    place = f"{name}.quantize in {_profile(config)}"
    if find_spec("bitsandbytes") is None:
        advice = f"Run `make setup EXTRAS=quant`, or set {place} to null."
        yield problem(name, f"quantize is {quantize}, and bitsandbytes isn't installed", advice)
    try:
        device = usable(config)
    except NotCheckedError:  # that is a finding of its own
        return
    if quantize == "4bit" and device.type != "cuda":
        message = f"quantize is 4bit, which needs a CUDA GPU, and the device is {device}"
        yield problem(name, message, f"Set {place} to 8bit or null.")


def _spread(key: str, checkpoint: CheckpointConfig, config: Config) -> Iterator[Finding]:
    """Check `device_map`: BLIP can't be spread over devices."""
    import torch  # the other checks run without it

    device_map, name = checkpoint.device_map, f"models.{key}"
    if not device_map or checkpoint.family != "blip":
        return
    place = f"{name}.device_map in {_profile(config)}"
    message = f"device_map is {device_map}, which the family blip doesn't support"
    if torch.cuda.device_count() < 2:  # loads if one is enough
        advice = f"{_null(place)} If its weights don't fit on one device, it can't be loaded."
        yield warning(name, message, advice)
    else:
        yield problem(name, message, _null(place))


def _null(place: str) -> str:
    """Return the advice to remove a setting."""
    return f"Set {place} to null."


def _profile(config: Config) -> str:
    """Return the profile's file."""
    return f"conf/profiles/{config.profile}.yaml"
