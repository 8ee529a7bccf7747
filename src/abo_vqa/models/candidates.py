"""Candidate answers: CLIP's, and those of ranked decoding.

`clip-fixed`, `clip-train` and `clip-all` are one checkpoint, `models.clip`, with three regimes of
candidates. `clip-all` includes the answers of the test rows, as in the study; `clip-train` doesn't.
Ranked decoding takes train's answers, and never the test's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from abo_vqa.core.errors import UserError
from abo_vqa.core.files import read_utf8
from abo_vqa.core.paths import TRAIN, VQA
from abo_vqa.core.tables import read_table
from abo_vqa.data.normalise import normalise
from abo_vqa.models.answers import CandidateAnswers

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


def train_candidates(config: Config) -> CandidateAnswers:
    """Return train's answers as the candidates of ranked decoding.

    Args:
        config: the settings.

    Raises:
        UserError: the train split can't be read, or has no answer.
    """
    texts = by_frequency(read_table(TRAIN, ["answer"])["answer"])
    if not texts:
        raise UserError(f"{TRAIN} has no answer to choose from. Run `dvc repro split`.")
    return CandidateAnswers(texts, config.ranking.candidates, config.ranking.shortlist)


def by_frequency(answers: Iterable[str]) -> tuple[str, ...]:
    """Return distinct answers, the most frequent first, alphabetically among equals.

    Answers that count as equal ("2", "Two") are one candidate, in their most frequent spelling;
    blank ones are none.

    Args:
        answers: answers, with repetitions.
    """
    spellings: dict[str, Counter[str]] = {}
    for answer in answers:
        if key := normalise(answer):
            spellings.setdefault(key, Counter())[answer.strip()] += 1
    most_frequent = {
        min(counts, key=lambda text: (-counts[text], text)): counts.total()
        for counts in spellings.values()
    }
    return tuple(sorted(most_frequent, key=lambda text: (-most_frequent[text], text)))
