"""Answers that mean the same: a small table that people can review, and equal base forms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from abo_vqa.core.tables import read_table
from abo_vqa.data.normalise import normalise, normalised_words, same_answer
from abo_vqa.evaluation.wordnet_metrics import lemmatize

_Aliases = Mapping[str, frozenset[str]]


def read_aliases(path: Path) -> _Aliases:
    """Read a table of aliases.

    Each line holds both ways round; lines aren't chained (circle, circular and circle, round
    don't make circular an alias of round).

    Args:
        path: a CSV with the columns answer and alias.

    Returns:
        Normalised answer → the other answers accepted for it.

    Raises:
        UserError: the file is missing or has other columns.
    """
    table = read_table(path, ("answer", "alias"))
    aliases: dict[str, set[str]] = {}
    for answer, alias in zip(table["answer"], table["alias"], strict=True):
        aliases.setdefault(normalise(answer), set()).add(normalise(alias))
        aliases.setdefault(normalise(alias), set()).add(normalise(answer))
    return {answer: frozenset(others) for answer, others in aliases.items()}


def alias_matcher(path: Path) -> Callable[[str, str], float]:
    """Return `alias_match` with the aliases of a table.

    Args:
        path: see `read_aliases`.
    """
    return partial(alias_match, aliases=read_aliases(path))


def alias_match(prediction: str, reference: str, aliases: _Aliases) -> float:
    """Exact match that also accepts aliases and equal base forms, word by word.

    Args:
        prediction: a model's answer.
        reference: the right answer.
        aliases: as `read_aliases` returns them.

    Returns:
        1 or 0; a blank prediction is wrong.
    """
    normalised = normalise(prediction)
    if not normalised:
        return 0.0
    if same_answer(prediction, reference) or normalised in aliases.get(normalise(reference), ()):
        return 1.0
    return float(_lemmas(prediction) == _lemmas(reference))


def _lemmas(text: str) -> list[str]:
    return [lemmatize(word) for word in normalised_words(text)]
