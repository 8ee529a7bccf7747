"""Which families of models LoRA is trained on, and the layers it is put on by default."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

_DECODER_ONLY = ("q_proj", "v_proj")
LORA_TARGETS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "blip": ("query", "value"),  # of the text encoder and decoder
        "blip2": _DECODER_ONLY,
        "chat": _DECODER_ONLY,
        "llava": _DECODER_ONLY,
        "prefix": _DECODER_ONLY,
    }
)
"""Family → what `lora.targets: null` means. The other families can't be trained."""
_ENDPOINT = "it is behind an API, so that its weights aren't here to be trained; "


def complete_lora(settings: Mapping[str, Any]) -> list[str]:
    """Check `lora.model`, and set `lora.targets` if it is null.

    Args:
        settings: all settings as read, of which `lora` is changed in place.

    Returns:
        What is wrong: there is no such model, or it can't be trained.
    """
    lora, models = settings.get("lora"), settings.get("models")
    if not (isinstance(lora, dict) and isinstance(models, dict)) or "model" not in lora:
        return []  # reported as missing, or of a wrong type
    families = {
        name: entry.get("family") for name, entry in models.items() if isinstance(entry, dict)
    }
    name = lora["model"]
    family = families.get(name)
    if lora.get("targets") is None:
        lora["targets"] = LORA_TARGETS.get(str(family), _DECODER_ONLY)
    if family in LORA_TARGETS:
        return []
    reason = ""
    if family == "endpoint":
        reason = _ENDPOINT
    elif family is not None:
        reason = f"{family} picks from given answers and doesn't generate them; "
    allowed = ", ".join(name for name, family in families.items() if family in LORA_TARGETS)
    return [f"lora.model: found {name!r}; {reason}allowed: {allowed}"]
