"""Parsing what a model writes: pairs in JSON, however it is wrapped."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from abo_vqa.data.normalise import clean_answer
from abo_vqa.data.pairs import Pair

_DECODER = json.JSONDecoder(strict=False)  # line ends within strings are harmless
# A comma before a bracket, a brace or another comma; strings are skipped.
_STRAY_COMMA = re.compile(r'("(?:[^"\\]|\\.)*")|,(?=\s*[\]},])', re.DOTALL)
_MAX_DEPTH = 20  # levels of lists and objects that are searched


def parse_pairs(text: str) -> list[Pair]:
    """Return the pairs in a model's text: JSON, also with prose, code fences or stray commas.

    Of a reply that is cut off, the complete pairs count: they were paid for.

    Args:
        text: the reply.

    Returns:
        every object with a question and an answer, in order; [] if there is none.
    """
    value = _load_json(text)
    if isinstance(value, str):  # JSON in a JSON string
        value = _load_json(value)
    return [pair for item in _pair_objects(value) if (pair := _to_pair(item))]


def _load_json(text: str) -> Any:  # any JSON value
    """Return the JSON value that a text is, or a list of the objects in it."""
    for candidate in (text, _STRAY_COMMA.sub(r"\1", text)):
        try:
            return _DECODER.decode(candidate)
        except (ValueError, RecursionError):
            continue
    return _embedded_objects(_STRAY_COMMA.sub(r"\1", text))


def _pair_objects(value: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    """Yield the objects with a question and an answer in a JSON value, however deep, in order."""
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, dict):
        named = {str(name).strip().lower(): item for name, item in value.items()}
        if {"question", "answer"} <= set(named):
            yield named
            return
        value = list(value.values())
    for item in value if isinstance(value, list) else ():
        yield from _pair_objects(item, depth + 1)


def _to_pair(item: Mapping[str, Any]) -> Pair | None:
    """Return the pair in an object, or None if the question or the answer can't be one."""
    question, answer = item["question"], item["answer"]
    if isinstance(answer, bool):
        answer = "yes" if answer else "no"
    elif isinstance(answer, (int, float)):
        answer = _plain_digits(answer)
    if not isinstance(question, str) or not isinstance(answer, str):
        return None
    return Pair(" ".join(question.split()), clean_answer(answer))


def _plain_digits(number: float) -> str | None:
    """Return a number as people write it: 2500000, 2.5, 3 for 3.0; None if it isn't finite."""
    if isinstance(number, int):
        return str(number)
    if not math.isfinite(number):
        return None
    return f"{Decimal(str(number)).normalize() + 0:f}"  # plus 0: -0 is 0


def _embedded_objects(text: str) -> list[Any]:
    """Return the outermost complete JSON objects in a text that isn't JSON as a whole."""
    objects, start = [], text.find("{")
    while start >= 0:
        try:
            value, end = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            end = start + 1  # the outer object of a reply that is cut off: look inside it
        else:
            objects.append(value)
        start = text.find("{", end)
    return objects
