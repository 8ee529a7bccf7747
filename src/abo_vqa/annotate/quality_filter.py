"""The quality filter: every pair is checked, and every reject has a reason."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from abo_vqa.data.normalise import normalise
from abo_vqa.data.pairs import REVIEW, SURPLUS, Pair, PairKey, Product, Reject, pair_key
from abo_vqa.data.questions import question_subtype, question_type

_MAX_QUESTION_LENGTH, MAX_ANSWER_LENGTH = 120, 24  # characters
_MIN_WORDS, _MAX_WORDS = 3, 20
UNKNOWN_ANSWERS = {
    "unknown", "unclear", "unsure", "uncertain", "undetermined", "indeterminate", "unspecified",
    "unidentified", "unavailable", "unanswerable", "invisible", "na", "ambiguous", "indiscernible",
}  # fmt: skip
ARTICLES = {"an", "the"}  # not valid answers; "a" may be the letter
_BRAND_OR_TEXT = re.compile(
    r"\b(brand|logo|manufacturer|text|written|writing|says?|inscription|slogan|lettering|letters?"
    r"|spelled|initials?|printed on)\b",
    re.IGNORECASE,
)
# An English question has one of these; a question in another language hardly ever does.
_ENGLISH = re.compile(
    r"\b(is|are|was|were|does|do|did|has|have|had|can|could|will|would|should|what|which|who"
    r"|where|when|how|why)\b",
    re.IGNORECASE,
)


def answer_problem(text: str) -> str:
    """Return why an answer can't be right whatever the question is (see `REASONS`), or ""."""
    answer = normalise(text)
    if not text.strip():
        return "no_answer"
    if len(answer.split()) != 1 or answer in ARTICLES:
        return "multi_word"
    if len(answer) > MAX_ANSWER_LENGTH:
        return "length"
    # "N/A" is compared as written: normalisation takes its "a" for an article.
    if answer in UNKNOWN_ANSWERS or text.strip(" .?_…").lower() in ("", "n/a"):
        return "unknown"
    return ""


@dataclass(frozen=True)
class QualityFilter:
    """What the VQA table may contain.

    Attributes:
        questions: pairs per image.
        allow_brands: whether questions may ask for brands and texts.
        rejected: the pairs that people rejected.
    """

    questions: int
    allow_brands: bool = False
    rejected: frozenset[PairKey] = field(default_factory=frozenset)

    def reject_reason(self, pair: Pair, product: Product) -> str:
        """Return why a pair can't be in the table whatever else is in it, or ""."""
        question, answer = pair.question, normalise(pair.answer)
        words = question.split()
        # First: a user's own table keeps pairs with other faults, but not what people rejected.
        key = pair_key(product.get("image_path", ""), question, pair.answer)
        if key in self.rejected:
            return REVIEW
        if not question.strip():
            return "no_question"
        if not pair.answer.strip():
            return "no_answer"
        if not (question + pair.answer).isascii() or not _ENGLISH.search(question):
            return "language"
        if not question.endswith("?"):
            return "no_question_mark"
        if not _MIN_WORDS <= len(words) <= _MAX_WORDS or len(question) > _MAX_QUESTION_LENGTH:
            return "length"
        if problem := answer_problem(pair.answer):
            return problem
        if answer in normalise(question).split() and question_type(question) != "yes/no":
            return "in_question"
        if not self.allow_brands and self._reveals_brand(pair, product):
            return "brand_or_text"
        return ""

    def _reveals_brand(self, pair: Pair, product: Product) -> bool:
        if _BRAND_OR_TEXT.search(pair.question):
            return True
        # A word of the brand ("stone" of "Stone & Beam") counts unless it is the product's own
        # color, type or material: the brand "Amber" may sell amber lamps.
        attributes = " ".join(product.get(c, "") for c in ("color", "product_type", "material"))
        brand = set(normalise(product.get("brand", "")).split()) - set(
            normalise(attributes).split()
        )
        words = set(normalise(pair.question).split()) | set(normalise(pair.answer).split())
        return normalise(pair.answer) in brand or (bool(brand) and brand <= words)

    def filter_pairs(
        self, offered: Iterable[Pair], product: Product, existing: Sequence[Pair] = ()
    ) -> tuple[list[Pair], list[Reject]]:
        """Accept pairs until the image has enough.

        Args:
            offered: candidates, in order.
            product: the image's row of the balanced table.
            existing: pairs that the image has already.

        Returns:
            the newly accepted pairs with their kind, and the rejects.
        """
        accepted: list[Pair] = []
        rejects: list[Reject] = []
        previous = {normalise(pair.question) for pair in existing}
        for pair in offered:
            reason = self.reject_reason(pair, product)
            if not reason and normalise(pair.question) in previous:
                reason = "duplicate"
            if not reason and len(existing) + len(accepted) >= self.questions:
                reason = SURPLUS
            if reason:
                rejects.append(Reject(pair.question, pair.answer, reason))
                continue
            previous.add(normalise(pair.question))
            kind = pair.kind or question_subtype(pair.question)
            accepted.append(Pair(pair.question, pair.answer, kind))
        return accepted, rejects
