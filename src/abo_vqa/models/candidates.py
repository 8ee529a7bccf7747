"""CLIP's candidate answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from abo_vqa.core.tables import read_table

if TYPE_CHECKING:
    from abo_vqa.config import Config
from abo_vqa.core.paths import TRAIN, VQA


def candidates_for(name: str, config: Config) -> list[str] | None:
    """CLIP's candidate answers: the fixed list, the train split's answers, or everybody's.

    `clip-all` knows the answers of the test rows, as in the study; `clip-train` doesn't.
    """
    source = {
        "clip-fixed": config.baselines.answers,
        "clip-train": TRAIN,
        "clip-all": VQA,
    }.get(name)
    if source is None:
        return None
    if source.suffix == ".txt":
        lines = source.read_text(encoding="utf-8").splitlines()
        return [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    answers = read_table(source, ["answer"])["answer"]
    return sorted({a.strip().lower() for a in answers} - {""})
