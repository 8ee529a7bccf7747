"""Decoding for a closed world: the likeliest of known answers instead of free text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from abo_vqa.core.errors import UserError
from abo_vqa.core.fingerprints import fingerprint
from abo_vqa.core.log import get_logger
from abo_vqa.core.paths import FINETUNED_MODELS, FINETUNED_RANKED
from abo_vqa.models.answering.wrapper import ChoosingModel
from abo_vqa.models.candidates import train_candidates
from abo_vqa.models.registry import checkpoint_of

if TYPE_CHECKING:
    from abo_vqa.core.config import Config
    from abo_vqa.models.answers import Answer, CandidateAnswers
    from abo_vqa.models.base import VQAModel

logger = get_logger(__name__)


class RankedModel(ChoosingModel):
    """A model that answers with the likeliest of its candidates.

    Args:
        model: the model that ranks.
        candidates: the possible answers.

    Raises:
        UserError: the model's family has no likelihoods, or it can take none of the candidates.
    """

    def __init__(self, model: VQAModel, candidates: CandidateAnswers) -> None:
        super().__init__(model)
        self.candidates = _possible(model, candidates)
        texts = self.candidates.pool
        lengths, _ = model.text_lengths(["?"] * len(texts), [[text] for text in texts])
        self._longest = texts[lengths.index(max(lengths))]

    def predict_answers(
        self, encoded: Any, image_index: Sequence[int], questions: Sequence[str]
    ) -> list[Answer]:
        """Return the likeliest candidate for each question."""
        return self.model.rank_answers(encoded, image_index, questions, self.candidates)

    def question_errors(
        self, questions: Sequence[str], choices: Sequence[Sequence[str]] | None = None
    ) -> list[str]:
        """Check questions with the candidate that takes most room, or with the choices."""
        if choices is None:
            choices = [[self._longest]] * len(questions)
        return self.model.question_errors(questions, choices)

    def record(self) -> dict[str, Any]:
        """Return what the answers depend on."""
        count = len(self.candidates.texts)
        k = min(self.candidates.k, count)
        return {
            **self.model.record(),
            "decoding": f"likeliest of {k} of {count} train answers ({self.candidates.shortlist})",
            "candidates": fingerprint(self.candidates),
        }


def _possible(model: VQAModel, candidates: CandidateAnswers) -> CandidateAnswers:
    """Leave out candidates that answer no question, such as one that is too long for the model.

    Raises:
        UserError: none is left.
    """
    texts = candidates.texts
    if not any(model.question_errors(["?"], [texts])):
        return candidates
    errors = model.question_errors(["?"] * len(texts), [[text] for text in texts])
    fitting = tuple(text for text, error in zip(texts, errors, strict=True) if not error)
    first = next(error for error in errors if error)
    if not fitting:
        raise UserError(f"none of the {len(texts):,} train answers can be ranked: {first}.")
    logger.warning(
        f"{len(texts) - len(fitting):,} of {len(texts):,} train answers can't be ranked: {first}"
    )
    return replace(candidates, texts=fitting)


def ranked_candidates(name: str, config: Config) -> CandidateAnswers | None:
    """Return the candidates of a model that ranks, or None if it answers freely.

    Args:
        name: the model's name, or "finetuned" (which answers freely) or "finetuned-ranked".
        config: the settings.

    Raises:
        UserError: the train split, whose answers are the candidates, can't be read.
    """
    if name in FINETUNED_MODELS:
        ranked = name == FINETUNED_RANKED
    else:
        ranked = checkpoint_of(name, config).decoding == "ranked"
    return train_candidates(config) if ranked else None


def with_decoding(model: VQAModel, candidates: CandidateAnswers | None) -> VQAModel:
    """Return a model that chooses among candidates, or the model itself if there are none.

    Args:
        model: the model.
        candidates: the possible answers; None for free text.
    """
    return model if candidates is None else RankedModel(model, candidates)
