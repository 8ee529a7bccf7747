"""Answers that mean the same: a small table people can review, and equal base forms."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from abo_vqa.core.tables import read_table
from abo_vqa.data.normalise import normalise, normalised_words, same_answer
from abo_vqa.evaluation.meaning import lemma

_Aliases = Mapping[str, frozenset[str]]


def read_aliases(path: Path) -> _Aliases:
    """Normalised answer → what is accepted for it.

    Each line of the table holds both ways round; lines aren't chained (circle, circular and
    circle, round don't make circular, round).
    """
    table = read_table(path, ("answer", "alias"))
    found: dict[str, set[str]] = {}
    for answer, alias in zip(table["answer"], table["alias"], strict=True):
        found.setdefault(normalise(answer), set()).add(normalise(alias))
        found.setdefault(normalise(alias), set()).add(normalise(answer))
    return {answer: frozenset(accepted) for answer, accepted in found.items()}


def accepted(prediction: str, reference: str, aliases: _Aliases) -> float:
    """1 if equal after normalisation, an alias, or equal in base forms word by word.

    A blank prediction is wrong.
    """
    said = normalise(prediction)
    if not said:
        return 0.0
    if same_answer(prediction, reference) or said in aliases.get(normalise(reference), ()):
        return 1.0
    return float(
        [lemma(w) for w in normalised_words(prediction)]
        == [lemma(w) for w in normalised_words(reference)]
    )
