"""The tiny decoder-only checkpoints as a profile would name them, and how they are loaded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from abo_vqa.core.config import CheckpointConfig, ComputeConfig
from abo_vqa.models.registry import family_class
from tests.support.models import MAKERS
from tests.support.vlms import VLM_SAVERS

_CPU = ComputeConfig(device="cpu", dtype="float32")
_PROMPTS = {"chat": "{question} answer in one word.", "prefix": "answer {question}"}
# Families of one architecture each.
_OTHERS = {"llava": "<image> Question: {question} Answer:", "blip2": "Question: {question} Answer:"}
VLM_NAMES = [*VLM_SAVERS, *_OTHERS]


@dataclass(frozen=True)
class SavedCheckpoint:
    """A folder, its family, and a prompt for it."""

    folder: Path
    family: str
    prompt: str

    def load(self, **settings: Any) -> Any:
        """The family's class with these weights; settings can be changed."""
        named = {"path": str(self.folder), "family": self.family, "prompt": self.prompt}
        checkpoint = CheckpointConfig(**{**named, **settings})
        return family_class(checkpoint).load(checkpoint, _CPU)


def save_checkpoints(root: Path, names: Iterable[str] = VLM_NAMES) -> dict[str, SavedCheckpoint]:
    """Save checkpoints, each in a folder of its own."""
    saved = {}
    for name in names:
        family, save = VLM_SAVERS[name] if name in VLM_SAVERS else (name, MAKERS[name])
        prompt = _OTHERS.get(name) or _PROMPTS[family]
        saved[name] = SavedCheckpoint(save(root / name), family, prompt)
    return saved
