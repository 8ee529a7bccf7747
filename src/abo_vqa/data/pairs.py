"""The types that all parts of annotation share: products, question-answer pairs, and rejects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from abo_vqa.data.normalise import normalise

PairKey = tuple[str, str, str]
"""What identifies a pair: image path, question and answer, in the forms of `pair_key`."""
Product = Mapping[str, str]
"""A row of the balanced table."""
REVIEW, CORRECTED, SURPLUS = "review", "corrected", "surplus"
REASONS = MappingProxyType(
    {
        "no_question": "there is no question",
        "no_answer": "there is no answer",
        "language": "not in English, or not in ASCII",
        "no_question_mark": "the question doesn't end in a question mark",
        "length": "the question or the answer is too short or too long",
        "multi_word": "the answer isn't exactly one word",
        "unknown": "the answer says that it isn't known",
        "in_question": "the question contains its answer",
        "brand_or_text": "asks for a brand or a text, or reveals one",
        "duplicate": "the image has this question already",
        REVIEW: "rejected by a person",
        CORRECTED: "a person corrected the answer, so the pair is in the set with another one",
        SURPLUS: "more pairs than asked for",
    }
)
"""Why a pair isn't in the table as it was written → in words."""
GATE_REASONS = frozenset(REASONS) - {REVIEW, CORRECTED, SURPLUS}
"""Those of the quality gate: neither people's, nor that there were enough pairs."""


@dataclass(frozen=True, slots=True)
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


def pair_key(image_path: str, question: str, answer: str) -> PairKey:
    """Return what identifies a pair, whatever a spreadsheet has made of it.

    Spreadsheets write "true" as "TRUE", "2.0" as "2", and other line ends into a cell.

    Args:
        image_path: the image.
        question: the question.
        answer: the answer.
    """
    return image_path.strip(), " ".join(question.split()).casefold(), normalise(answer)


@dataclass(frozen=True, slots=True)
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
