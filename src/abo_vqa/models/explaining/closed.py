"""Explanations of models that choose among given answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from abo_vqa.models.answering.ranked import RankedModel
from abo_vqa.models.clip.model import Clip
from abo_vqa.models.explaining.explainer import Explainer
from abo_vqa.models.explaining.explanations import AttentionMaps, Likeliest
from abo_vqa.models.explaining.registry import explainer_of

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from abo_vqa.models.answers import Answer, CandidateAnswers


class ClipExplainer(Explainer[Clip]):
    """The most similar candidates."""

    no_attention: str = (
        "Not available for this model: CLIP compares one vector of the whole image with one of the "
        "text, and no word attends to a place."
    )

    def likeliest(self, encoded: Tensor, question: str, answer: Answer) -> Likeliest:
        """Return the candidates' shares of CLIP's softmax."""
        del answer
        choices = self.model.candidates
        scores = self.model.score_choices(encoded, [0], [question], [choices])[0]
        return Likeliest.of(
            choices,
            [float(p) for p in np.exp(scores)],
            f"The most similar of CLIP's {len(choices):,} candidates. A probability is a "
            "candidate's share of the softmax over them.",
        )


class RankedExplainer(Explainer[RankedModel]):
    """The likeliest candidates of a ranking, and the attention of the model that ranks."""

    def __init__(self, model: RankedModel, candidates: CandidateAnswers) -> None:
        del candidates  # it has its own
        super().__init__(model, model.candidates)
        self._ranking = explainer_of(model.model, model.candidates)
        self.no_attention = self._ranking.no_attention

    def likeliest(self, encoded: Any, question: str, answer: Answer) -> Likeliest:
        """Return the shares of the candidates' likelihood, of which the confidence is one."""
        del answer
        choices = list(self._ranking.shortlist(encoded, question))
        scores = np.array(self.model.score_choices(encoded, [0], [question], [choices])[0])
        shares = np.exp(scores - scores.max())
        return Likeliest.of(
            choices,
            (shares / shares.sum()).tolist(),
            f"The likeliest of the {len(choices):,} answers of the train split that it chooses "
            "among. A probability is an answer's share of their likelihood.",
        )

    def attention(
        self, encoded: Any, image: Image, question: str, answer: str
    ) -> AttentionMaps | None:
        """Return where the model that ranks looked, with the chosen answer as its own."""
        return self._ranking.attention(encoded, image, question, answer)
