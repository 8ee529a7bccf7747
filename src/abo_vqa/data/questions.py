"""What a question asks for, told from its words: the study's four types, and finer ones."""

from __future__ import annotations

import re

YES_NO = re.compile(
    r"^(is|are|was|were|does|do|did|has|have|had|can|could|will|would|should)\b", re.IGNORECASE
)
# In this order: the first that matches. "What color is the pattern?" asks for a colour.
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
COUNTING = re.compile(r"\b(how many|number of|count)\b", re.IGNORECASE)
_NUMBERS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
)  # fmt: skip


def question_type(question: str) -> str:
    """ "yes/no", "counting", "color" or "other"."""
    subtype = question_subtype(question)
    return subtype if subtype in ("yes/no", "counting", "color") else "other"


def question_subtype(question: str) -> str:
    """The type, with "other" told apart: material, pattern, shape, brand, position, type, other."""
    if YES_NO.match(question.strip()):
        return "yes/no"
    if COUNTING.search(question):
        return "counting"
    return next((name for name, words in _SUBTYPES.items() if words.search(question)), "other")


def parse_number(normalised: str) -> int | None:
    """The value of a normalised answer that is a number, else None."""
    if normalised in _NUMBERS:
        return _NUMBERS.index(normalised)
    return int(normalised) if normalised.isdecimal() else None


def answer_type(normalised: str) -> str:
    """ "yes/no", "number" or "word"."""
    if normalised in ("yes", "no"):
        return "yes/no"
    return "word" if parse_number(normalised) is None else "number"
