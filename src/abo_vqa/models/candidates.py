"""CLIP's candidate answers.

`clip-fixed`, `clip-train` and `clip-all` are one checkpoint, `models.clip`, with three regimes of
candidates. `clip-all` includes the answers of the test rows, as in the study; `clip-train` doesn't.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from abo_vqa.core.files import read_utf8
from abo_vqa.core.paths import TRAIN, VQA
from abo_vqa.core.tables import read_table

if TYPE_CHECKING:
    from abo_vqa.core.config import Config

CLIP = "clip"
"""The key under `models` of the checkpoint that the regimes share."""

REGIMES: Mapping[str, Callable[[Config], Path]] = MappingProxyType(
    {
        "clip-fixed": lambda config: config.baselines.answers,
        "clip-train": lambda _: TRAIN,
        "clip-all": lambda _: VQA,
    }
)
"""Model name → the file that its candidates come from: a list, or a table with answers."""


def candidates_for(name: str, config: Config) -> list[str] | None:
    """Return the candidate answers of a model, or None if it isn't a regime of CLIP.

    Args:
        name: the model's name.
        config: the settings.

    Raises:
        UserError: the file of candidates can't be read.
    """
    if name not in REGIMES:
        return None
    source = REGIMES[name](config)
    if source.suffix == ".txt":
        lines = read_utf8(source).splitlines()
        return [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    answers = read_table(source, ["answer"])["answer"]
    return sorted({a.strip().lower() for a in answers} - {""})
