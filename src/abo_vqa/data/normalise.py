"""The one normalisation that every lexical score starts from, and the one rule of equal answers."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_DIGITS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
)  # fmt: skip
# "2.0" and "1.50" with the zeros that add nothing; not in "2.0.1" or "v2.0".
_ZEROS = re.compile(r"(?<![\w.])(\d+)\.(\d*?)0+(?![\w.]*\d)")
_THOUSANDS = re.compile(r"(?<![\w.,])\d{1,3}(?:,\d{3})+(?![\w,])")
_NO_WHOLE = re.compile(r"(?<![\w.])\.(?=\d)")  # ".5"
_NUMBER = re.compile(r"\b(10|[0-9])\b")
_ARTICLES = re.compile(r"\b(a|an|the)\b")
# A point between digits stays: "12.25" isn't "1225".
_PUNCTUATION = re.compile(r"[^\w\s.]|(?<!\d)\.|\.(?!\d)")
_NOT_ASCII_DIGIT = re.compile(r"(?![0-9])\d")
_KNOWN = 1 << 16  # short answers repeat: a study has a few thousand distinct ones


def to_nfc(text: str) -> str:
    """The text with letters and their accents as one character where there is one (NFC)."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


@lru_cache(_KNOWN)
def normalise_lossy(text: str) -> str:
    """What the study compares: nothing at all for "A", "the" or "+".

    Lower case, numbers in their shortest form, digits 0 to 10 as words, no articles, no
    punctuation, single spaces; in this order, so that "A-line" becomes "line" and "1.5" "onefive".
    """
    text = to_nfc(text.lower())
    if not text.isascii():
        text = _NOT_ASCII_DIGIT.sub(lambda found: str(int(found[0])), text)
    text = _THOUSANDS.sub(lambda found: found[0].replace(",", ""), text)
    text = _ZEROS.sub(strip_zeros, _NO_WHOLE.sub("0.", text))
    text = _ARTICLES.sub("", _NUMBER.sub(lambda found: _DIGITS[int(found[0])], text))
    return " ".join(_PUNCTUATION.sub(_mark, text).split())


def strip_zeros(number: re.Match[str]) -> str:
    """The matched number without zeros at its end: "2.0" → "2", "1.50" → "1.5"."""
    whole, fraction = number[1], number[2]
    return f"{whole}.{fraction}" if fraction else whole


def _mark(found: re.Match[str]) -> str:
    """A matched character if it is a mark that belongs to the letter before it, else nothing.

    Devanagari and Thai write vowels as marks, which to a regular expression are no word
    characters. The vowel points of Hebrew and Arabic (combining classes 10 to 35) are optional
    there, and variation selectors choose a glyph: both go.
    """
    character, before = found[0], found.string[max(0, found.start() - 1) : found.start()]
    if character.isascii() or unicodedata.category(character) not in ("Mn", "Mc"):
        return ""
    letter = before.isalnum() or unicodedata.category(before or " ").startswith("M")
    optional = 10 <= unicodedata.combining(character) <= 35 or "\ufe00" <= character <= "\ufe0f"
    return character if letter and not optional else ""


@lru_cache(_KNOWN)
def normalise(text: str) -> str:
    """The normal form in which answers are compared; "" for blank text only.

    That is `normalise_lossy`, or where it leaves nothing ("A", "A++", "+", "The") the stripped text in lower
    case: these are answers, and different ones.
    """
    return normalise_lossy(text) or to_nfc(text.strip().lower())


@lru_cache(_KNOWN)
def normalised_words(text: str) -> tuple[str, ...]:
    """The words of the normalised text; what `normalise_lossy` leaves nothing of is one word."""
    return tuple(normalise_lossy(text).split()) or ((normalise(text),) if normalise(text) else ())


def same_answer(prediction: str, reference: str) -> bool:
    """Whether a prediction is right: every metric and every comparison asks here.

    Texts are equal in their normal forms. A blank prediction is never right, not even where the
    reference is blank too.
    """
    said = normalise(prediction)
    return bool(said) and said == normalise(reference)
