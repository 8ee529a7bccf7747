"""The part of a model's record that all families share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from abo_vqa.core.config import CheckpointConfig


def checkpoint_record(checkpoint: CheckpointConfig, model: nn.Module) -> dict[str, Any]:
    """Return the checkpoint, and the dtype and device of the loaded weights.

    Args:
        checkpoint: the checkpoint's settings.
        model: the loaded model.
    """
    counts: dict[torch.dtype, int] = {}
    for parameter in model.parameters():  # some modules stay in float32, others are quantised
        if parameter.is_floating_point():
            counts[parameter.dtype] = counts.get(parameter.dtype, 0) + parameter.numel()
    dtype = max(counts, key=lambda d: counts[d])
    return {
        "path": checkpoint.path,
        "revision": checkpoint.revision or "",
        "dtype": str(dtype).removeprefix("torch."),
        "quantize": checkpoint.quantize or "",
        "device_map": checkpoint.device_map or "",
        "device": _device_name(next(model.parameters()).device),
    }


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
