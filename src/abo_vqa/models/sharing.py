"""Memory that two loaded models have in common: a base, and the same base with a merged adapter.

Merged, an adapter changes the layers it was trained on and no other weight, so most of the two
models is equal bit by bit. Kept once, a fine-tuned model takes little more beside its base than
what the adapter changes; and since nothing else about the models changes, neither do their answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from abo_vqa.models.adapters import is_vision
from abo_vqa.models.answering.wrapper import ChoosingModel

if TYPE_CHECKING:
    from abo_vqa.models.base import VQAModel


def share_equal_weights(model: VQAModel, other: VQAModel) -> int:
    """Let a model use another one's weights where they are equal.

    Both must be for inference only: training one would change the other.

    Args:
        model: the model whose equal weights are released.
        other: the model that keeps them.

    Returns:
        The bytes that are released.
    """
    kept = dict(_weights(other))
    released = {}
    for name, parameter in _weights(model):
        twin = kept.get(name)
        if twin is None or parameter.data_ptr() == twin.data_ptr():
            continue
        # Quantised weights have a state beside their numbers.
        plain = parameter.is_floating_point() and parameter.dtype == twin.dtype
        if (
            plain
            and parameter.shape == twin.shape
            and parameter.device == twin.device
            and torch.equal(parameter, twin)
        ):
            released[parameter.data_ptr()] = parameter.nbytes
            parameter.data = twin.data
    return sum(released.values())


def vision_weights(model: VQAModel) -> tuple[int, ...]:
    """Return where the weights of a model's vision part are in memory.

    Models for which this is equal, and not empty, encode an image alike.

    Args:
        model: the model.
    """
    modules = getattr(_innermost(model), "vision_modules", ())
    return tuple(
        parameter.data_ptr() for name, parameter in _weights(model) if is_vision(name, modules)
    )


def _weights(model: VQAModel) -> list[tuple[str, nn.Parameter]]:
    """Return a model's parameters by name, those of tied layers under each of their names."""
    network = getattr(_innermost(model), "model", None)
    if not isinstance(network, nn.Module):  # one behind an endpoint
        return []
    return list(network.named_parameters(remove_duplicate=False))


def _innermost(model: VQAModel) -> VQAModel:
    """Return the model that another one chooses by, or the model itself."""
    return model.model if isinstance(model, ChoosingModel) else model
