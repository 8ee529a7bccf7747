"""The one normalisation that every lexical score starts from."""

from __future__ import annotations

import re

# In this order: "10" is a word of its own, so no longer number is split.
DIGITS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
)  # fmt: skip
ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = re.compile(r"[^\w\s]")


def norm(text: str) -> str:
    """Lower case, digits 0 to 10 as words, no articles, no punctuation, single spaces."""
    text = text.lower()
    for number, name in enumerate(DIGITS):
        text = re.sub(rf"\b{number}\b", name, text)
    return " ".join(PUNCTUATION.sub("", ARTICLES.sub("", text)).split())
