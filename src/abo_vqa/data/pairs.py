"""The types that all parts of annotation share: products, question-answer pairs, and rejects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Product = Mapping[str, str]
"""A row of the balanced table."""


@dataclass(frozen=True)
class Pair:
    """A question and its one-word answer.

    Attributes:
        question: the question.
        answer: the answer.
        kind: what is asked for (see `questions.question_subtype`), "" while unknown.
    """

    question: str
    answer: str
    kind: str = ""


@dataclass(frozen=True)
class Reject:
    """A pair that the quality filter turned down.

    Attributes:
        question: the question.
        answer: the answer.
        reason: why it was turned down.
    """

    question: str
    answer: str
    reason: str


# Copied as it is, it would be rejected: an example would become everybody's question.
REPLY_FORMAT = (
    "Reply with JSON and nothing else, in this form: "
    '{"items": [{"question": "...", "answer": "..."}, ...]}'
)
"""What `reply_schema` says, for models that are told by the prompt alone."""


def reply_schema() -> dict[str, Any]:
    """Return the schema of a reply, in the subset of OpenAPI that both Gemini SDKs accept.

    Each call returns a new one, because google-genai modifies what it is given.
    """
    pair = {"question": {"type": "STRING"}, "answer": {"type": "STRING"}}
    items = {"type": "OBJECT", "properties": pair, "required": ["question", "answer"]}
    return {"type": "ARRAY", "items": items}
