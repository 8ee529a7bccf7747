"""The one normalisation that every lexical score starts from."""

from __future__ import annotations

import re
from functools import lru_cache

DIGITS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
)  # fmt: skip
NUMBER = re.compile(r"\b(10|[0-9])\b")
ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = re.compile(r"[^\w\s]")
KNOWN = 1 << 16  # short answers repeat: a study has a few thousand distinct ones


@lru_cache(KNOWN)
def norm(text: str) -> str:
    """Lower case, digits 0 to 10 as words, no articles, no punctuation, single spaces.

    In this order, as the study does it, so that "A-line" becomes "line" and "1.5" "onefive".
    """
    text = NUMBER.sub(lambda found: DIGITS[int(found[0])], text.lower())
    return " ".join(PUNCTUATION.sub("", ARTICLES.sub("", text)).split())


@lru_cache(KNOWN)
def words(text: str) -> tuple[str, ...]:
    """The words of the normalised text."""
    return tuple(norm(text).split())
