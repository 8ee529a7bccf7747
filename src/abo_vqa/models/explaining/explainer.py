"""Explanations by what every model offers: an answer, and the likelihoods of given answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from abo_vqa.core.errors import UserError
from abo_vqa.models.base import VQAModel
from abo_vqa.models.explaining.explanations import AttentionMaps, Explanation, Likeliest

if TYPE_CHECKING:
    from PIL.Image import Image

    from abo_vqa.models.answers import Answer, CandidateAnswers

M = TypeVar("M", bound=VQAModel)


class Explainer(Generic[M]):
    """Explains a model's answers.

    Its methods take one image and one question; the image is encoded once for all of them.

    Args:
        model: the model.
        candidates: the answers to rank where the model has no vocabulary of its own and can't be
            searched for its likeliest texts.

    Attributes:
        no_attention: why there are no attention maps.
    """

    no_attention: str = "Not available for this model."

    def __init__(self, model: M, candidates: CandidateAnswers) -> None:
        self.model = model
        self.candidates = candidates

    def explain(
        self, image: Image, question: str, encode: Callable[[Sequence[Image]], Any] | None = None
    ) -> Explanation:
        """Answer a question about an image, and explain the answer.

        Args:
            image: the image.
            question: the question.
            encode: used instead of the model's `encode_images`.

        Returns:
            The explanation; its answer is the one that `VQAModel.answer` gives.

        Raises:
            UserError: the question is empty or too long, the image can't be encoded, or the model
                gives no answer.
        """
        errors = [*self.model.question_errors([question]), self.model.image_error(image)]
        if error := next(filter(None, errors), ""):
            raise UserError(f"{error}.")
        encoded = (encode or self.model.encode_images)([image])
        answer = self.model.predict_answers(encoded, [0], [question])[0]
        if answer.error:
            raise UserError(f"no answer: {answer.error}.")
        attention = self.attention(encoded, image, question, answer.text)
        return Explanation(
            answer.text,
            answer.confidence,
            self.likeliest(encoded, question, answer),
            attention,
            "" if attention else self.no_attention,
        )

    def likeliest(self, encoded: Any, question: str, answer: Answer) -> Likeliest | None:
        """Return the likeliest answers: here, among the candidates and the model's own answer.

        Args:
            encoded: the encoded image.
            question: the question.
            answer: the model's answer.

        Returns:
            The answers; None if the model gives no likelihoods.
        """
        if type(self.model).score_choices is VQAModel.score_choices:
            return None
        texts = self.shortlist(encoded, question)
        choices = list(dict.fromkeys([answer.text, *texts]))
        scores = self.model.score_choices(encoded, [0], [question], [choices])[0]
        return Likeliest.of(
            choices,
            [math.exp(score) for score in scores],
            f"The likeliest of {len(choices):,} texts: the model's own answer, and answers of the "
            "train split. A probability is the product of those of the answer's tokens.",
        )

    def shortlist(self, encoded: Any, question: str) -> Sequence[str]:
        """Return the candidates that are worth scoring, as `VQAModel.rank_answers` does.

        Args:
            encoded: the encoded image.
            question: the question.
        """
        pool = self.candidates.pool
        if pool:
            errors = self.model.question_errors([question] * len(pool), [[text] for text in pool])
            pool = tuple(text for text, error in zip(pool, errors, strict=True) if not error)
        if len(pool) <= self.candidates.k:
            return pool
        first = self.first_token_log_probs(encoded, question, pool)
        return pool if first is None else replace(self.candidates, texts=pool).select(first)

    def first_token_log_probs(
        self, encoded: Any, question: str, texts: Sequence[str]
    ) -> Sequence[float] | None:
        """Return the log-probability of each text's first token; None: whole texts cost no more.

        Args:
            encoded: the encoded image.
            question: the question.
            texts: possible answers.
        """
        rows = self.model.first_token_log_probs(encoded, [0], [question], texts)
        return None if rows is None else rows[0]

    def attention(
        self, encoded: Any, image: Image, question: str, answer: str
    ) -> AttentionMaps | None:
        """Return where the model looked; None if that isn't available.

        Args:
            encoded: the encoded image.
            image: the image.
            question: the question.
            answer: the model's answer.
        """
        del encoded, image, question, answer
        return None
