"""Models of any size with random weights, drawn where they are used: no file, no second copy.

The library builds the model without memory for its weights (the meta device); then each weight is
drawn on its device, in float32 first, so that a seed gives the same values in every number format.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

QUERIES_AND_KEYS = ("query", "key", "q_proj", "k_proj")


def empty(make: Callable[[], Any]) -> Any:
    """A model whose weights are on the meta device; its buffers (positions, masks) are real."""
    from accelerate import init_empty_weights

    with init_empty_weights(include_buffers=False):
        model = make().eval()
    if hasattr(model, "tie_weights"):  # moving a weight there took it apart from its double
        model.tie_weights()
    return model


def parameter_count(model: Any) -> int:
    return sum(p.numel() for p in model.parameters())


def fill(model: Any, device: torch.device, dtype: torch.dtype, scale: float, sharper: float) -> Any:
    """Draw every weight of a model from `empty` on its device.

    Matrices get a standard deviation of `scale` / sqrt(inputs), those of queries and keys
    `sharper` times that: else every token counts alike, and pictures and questions change nothing.
    Norms are 1 and biases 0, as models start.
    """
    torch.manual_seed(0)
    drawn: dict[int, tuple[Any, Any]] = {}  # the old ones are kept: a freed one's id may come again
    for place, module in model.named_modules():
        wide = sharper * scale if place.rpartition(".")[2] in QUERIES_AND_KEYS else scale
        norm = type(module).__name__.endswith("Norm")
        for name, old in module._parameters.items():
            if old is None:
                continue
            if id(old) not in drawn:
                values = draw(name, tuple(old.shape), norm, wide, device).to(dtype)
                drawn[id(old)] = old, torch.nn.Parameter(values, requires_grad=False)
            module._parameters[name] = drawn[id(old)][1]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = buffer.to(device)
    if hasattr(model, "tie_weights"):
        model.tie_weights()
    return model.eval()


def draw(
    name: str, shape: tuple[int, ...], norm: bool, scale: float, device: torch.device
) -> torch.Tensor:
    """A weight's values in float32."""
    if name == "logit_scale":
        return torch.full(shape, math.log(100.0), device=device)  # where CLIP's training ends
    if name.endswith("bias"):
        return torch.zeros(shape, device=device)
    if norm:
        return torch.ones(shape, device=device)
    inputs = math.prod(shape[1:]) if len(shape) > 1 else shape[0]
    return torch.empty(shape, device=device).normal_(0.0, scale / math.sqrt(inputs))
