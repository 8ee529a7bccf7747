"""The words every part of generation shares: products, pairs, replies, and what can go wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass

Product = Mapping[str, str]
"""A row of the balanced table."""


@dataclass(frozen=True)
class Pair:
    """A question and its one-word answer; `kind` is what it asks for ("" : not known yet)."""

    question: str
    answer: str
    kind: str = ""


@dataclass(frozen=True)
class Reject:
    """A pair that the quality gate turned down, and why."""

    question: str
    answer: str
    reason: str


def reply_schema() -> dict[str, Any]:
    """What a reply looks like, in the OpenAPI subset that both SDKs take; anew each time, since
    google-genai adds to the one it gets."""
    pair = {"question": {"type": "STRING"}, "answer": {"type": "STRING"}}
    items = {"type": "OBJECT", "properties": pair, "required": ["question", "answer"]}
    return {"type": "ARRAY", "items": items}
