"""Question types by keywords: the study's four, and a finer division of "other"."""

from __future__ import annotations

import re

from abo_vqa.data.normalise import NUMBER_WORDS

_YES_NO = re.compile(
    r"^(is|are|was|were|does|do|did|has|have|had|can|could|will|would|should)\b", re.IGNORECASE
)
# The first match counts: "What color is the pattern?" asks for a colour.
_SUBTYPES = {
    "color": re.compile(r"\b(colou?rs?|shade|hue)\b", re.IGNORECASE),
    "material": re.compile(r"\b(materials?|made (of|from|out)|fabric)\b", re.IGNORECASE),
    "pattern": re.compile(r"\b(patterns?|prints?|design)\b", re.IGNORECASE),
    "shape": re.compile(r"\b(shapes?|form)\b", re.IGNORECASE),
    "brand": re.compile(r"\b(brand|logo|manufacturer)\b", re.IGNORECASE),
    "position": re.compile(
        r"\b(where|position|side|facing|direction|orientation)\b", re.IGNORECASE
    ),
    "type": re.compile(
        r"\b(type|kind|object|product|item|category|shown|called|depicted)\b", re.IGNORECASE
    ),
}
_COUNTING = re.compile(r"\b(how many|number of|count)\b", re.IGNORECASE)


def question_type(question: str) -> str:
    """Return a question's type: "yes/no", "counting", "color" or "other"."""
    subtype = question_subtype(question)
    return subtype if subtype in ("yes/no", "counting", "color") else "other"


def question_subtype(question: str) -> str:
    """Return a question's type, where "other" is divided further.

    Args:
        question: its text.

    Returns:
        "yes/no", "counting", "color", "material", "pattern", "shape", "brand", "position", "type",
        or "other".
    """
    if _YES_NO.match(question.strip()):
        return "yes/no"
    if _COUNTING.search(question):
        return "counting"
    return next((name for name, words in _SUBTYPES.items() if words.search(question)), "other")


def parse_number(normalised: str) -> int | None:
    """Return the value of a normalised answer that is a whole number, else None."""
    if normalised in NUMBER_WORDS:
        return NUMBER_WORDS.index(normalised)
    return int(normalised) if normalised.isdecimal() else None


def answer_type(normalised: str) -> str:
    """Return a normalised answer's type: "yes/no", "number" or "word"."""
    if normalised in ("yes", "no"):
        return "yes/no"
    return "word" if parse_number(normalised) is None else "number"
