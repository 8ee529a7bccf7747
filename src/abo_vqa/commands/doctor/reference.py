"""The CPU as a reference for what a card computes: in float32, where that is fast enough."""

from __future__ import annotations

from typing import TYPE_CHECKING

from abo_vqa.core.memory import available_memory
from abo_vqa.core.units import GB
from abo_vqa.models.registry import checkpoint_of

if TYPE_CHECKING:
    from abo_vqa.core.config import CheckpointConfig, Config

LARGEST = 4.5e9  # parameters: LLaVA-7B isn't answered within a minute by a few cores
_BYTES = 1.3 * 4  # of memory a parameter, in float32 and with what is computed from it


def skip_reason(checkpoint: CheckpointConfig, parameters: int) -> str:
    """Explain why a model isn't tried on the CPU, or return "".

    Args:
        checkpoint: its settings.
        parameters: how many it has.
    """
    if checkpoint.quantize:
        return "its weights are quantised"
    count = f"{parameters / 1e9:.1f} billion parameters"
    if parameters > LARGEST:
        return f"{count} take too long there"
    needed, free = _BYTES * parameters, available_memory()
    if needed > free:
        return f"{count} take {needed / GB:.0f} GB there, {free / GB:.0f} GB are free"
    return ""


def on_cpu(key: str, config: Config) -> Config:
    """Return the settings with the weights `models.<key>` in float32 on the CPU.

    Args:
        key: the weights' name.
        config: the settings.
    """
    plain = checkpoint_of(key, config).model_copy(update={"dtype": "float32", "device_map": None})
    compute = config.compute.model_copy(update={"device": "cpu"})
    models = config.models.model_copy(update={key: plain})
    return config.model_copy(update={"compute": compute, "models": models})
