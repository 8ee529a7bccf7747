"""Answer normalisation: the form in which answers are compared, and when two of them are equal.

The steps follow the official VQA evaluation (Antol et al., "VQA: Visual Question Answering", ICCV
2015): lower case, number words, no articles, no punctuation. Every lexical metric and every
comparison of answers in this package starts here.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

NUMBER_WORDS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
)  # fmt: skip
"""The words for 0 to 10, each at its value's index."""
# Trailing zeros of a fraction, as in "2.0" and "1.50"; not in "2.0.1" or "v2.0".
_TRAILING_ZEROS = re.compile(r"(?<![\w.])(\d+)\.(\d*?)0+(?![\w.]*\d)")
_THOUSANDS = re.compile(r"(?<![\w.,])\d{1,3}(?:,\d{3})+(?![\w,])")
_LEADING_POINT = re.compile(r"(?<![\w.])\.(?=\d)")  # as in ".5"
_NUMBER = re.compile(r"\b(10|[0-9])\b")
_ARTICLES = re.compile(r"\b(a|an|the)\b")
# A point between digits stays: "12.25" isn't "1225".
_PUNCTUATION = re.compile(r"[^\w\s.]|(?<!\d)\.|\.(?!\d)")
_NOT_ASCII_DIGIT = re.compile(r"(?![0-9])\d")
_ANSWER_ENDS = ".,;:!?… "
_CACHE_SIZE = 1 << 16  # answers repeat: a study has a few thousand distinct ones


def to_nfc(text: str) -> str:
    """Return the text in Unicode normal form C: a letter and its accent as one character."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


@lru_cache(_CACHE_SIZE)
def normalise_lossy(text: str) -> str:
    """Normalise an answer as the study does, which leaves nothing of "A", "the" or "+".

    In this order: lower case, numbers in their shortest form, 0 to 10 as words, no articles, no
    punctuation, single spaces. "A-line" becomes "line", and "1.5" becomes "onefive".

    Args:
        text: an answer.

    Returns:
        the normalised answer, which may be "".
    """
    text = to_nfc(text.lower())
    if not text.isascii():
        text = _NOT_ASCII_DIGIT.sub(lambda match: str(int(match[0])), text)
    text = _THOUSANDS.sub(lambda match: match[0].replace(",", ""), text)
    text = _TRAILING_ZEROS.sub(_shortest, _LEADING_POINT.sub("0.", text))
    text = _ARTICLES.sub("", _NUMBER.sub(lambda match: NUMBER_WORDS[int(match[0])], text))
    return " ".join(_PUNCTUATION.sub(_mark, text).split())


def _shortest(number: re.Match[str]) -> str:
    """The matched number without trailing zeros: "2.0" → "2", "1.50" → "1.5"."""
    whole, fraction = number[1], number[2]
    return f"{whole}.{fraction}" if fraction else whole


def _mark(match: re.Match[str]) -> str:
    """Keep a matched character if it is a mark that belongs to the letter before it.

    Devanagari and Thai write vowels as combining marks, which a regular expression doesn't count
    as word characters. The vowel points of Hebrew and Arabic (combining classes 10 to 35) are
    optional and variation selectors only choose a glyph, so both are removed.
    """
    character, before = match[0], match.string[max(0, match.start() - 1) : match.start()]
    if character.isascii() or unicodedata.category(character) not in ("Mn", "Mc"):
        return ""
    letter = before.isalnum() or unicodedata.category(before or " ").startswith("M")
    optional = 10 <= unicodedata.combining(character) <= 35 or "\ufe00" <= character <= "\ufe0f"
    return character if letter and not optional else ""


@lru_cache(_CACHE_SIZE)
def normalise(text: str) -> str:
    """Return the form in which answers are compared; "" only for blank text.

    This is `normalise_lossy`, or, where that leaves nothing ("A", "A++", "+", "The"), the stripped
    text in lower case: these are answers, and different ones.
    """
    return normalise_lossy(text) or to_nfc(text.strip().lower())


@lru_cache(_CACHE_SIZE)
def normalised_words(text: str) -> tuple[str, ...]:
    """Split a normalised answer into words; one that `normalise_lossy` empties is one word."""
    return tuple(normalise_lossy(text).split()) or ((normalise(text),) if normalise(text) else ())


def clean_answer(text: str) -> str:
    """Return an answer as the table has it: lower case, single spaces, no punctuation at its end.

    It is written by models and people, and models learn to write it: "Purple." would be another
    answer to learn than "purple". Punctuation alone stays.

    Args:
        text: the answer as it was written.
    """
    words = " ".join(text.split()).lower()
    return words.rstrip(_ANSWER_ENDS) or words


def same_answer(prediction: str, reference: str) -> bool:
    """Return whether two answers are equal in their normal forms.

    A blank prediction never matches, not even a blank reference.

    Args:
        prediction: a model's answer.
        reference: the right answer.
    """
    normalised = normalise(prediction)
    return bool(normalised) and normalised == normalise(reference)
