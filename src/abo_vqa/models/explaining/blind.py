"""Explanations of the baseline that never sees an image: which answers its question is worth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from abo_vqa.core.errors import UserError
from abo_vqa.core.paths import TRAIN
from abo_vqa.core.tables import read_table
from abo_vqa.data.normalise import normalise
from abo_vqa.models.blind.baselines import fit_ngrams, unify_spelling
from abo_vqa.models.blind.ngrams import Ngrams
from abo_vqa.models.explaining.explanations import Explanation, Likeliest

if TYPE_CHECKING:
    import pandas as pd


class BlindExplainer:
    """The n-gram baseline, the strongest of the blind ones, fitted on the train split.

    Args:
        train: columns question and answer.

    Raises:
        UserError: the train split has no answer.
    """

    no_attention = "This model doesn't see the image: it knows the question alone."

    def __init__(self, train: pd.DataFrame) -> None:
        if not train["answer"].map(normalise).any():
            raise UserError(f"{TRAIN} has no answer to learn from. Run `dvc repro split`.")
        self._predict = fit_ngrams(
            *unify_spelling(train["question"].tolist(), train["answer"].tolist())
        )

    @classmethod
    def load(cls) -> BlindExplainer:
        """Fit the baseline on data/train.csv.

        Raises:
            UserError: the table can't be read, or has no answer.
        """
        return cls(read_table(TRAIN, ["question", "answer"]))

    def explain(self, question: str) -> Explanation:
        """Answer a question and list the likeliest answers.

        Args:
            question: the question.

        Raises:
            UserError: the question is empty.
        """
        if not question.strip():
            raise UserError("the question is empty.")
        texts, confidences = self._predict([question])
        likeliest = None
        if isinstance(self._predict, Ngrams):
            likeliest = Likeliest.of(
                self._predict.answers,
                _probabilities(self._predict, question),
                f"The likeliest of the {len(self._predict.answers):,} answers that it knows from "
                "the train split. Their probabilities sum to 1.",
            )
        return Explanation(texts[0], confidences[0], likeliest, None, self.no_attention)


def _probabilities(model: Ngrams, question: str) -> list[float]:
    """Return the probability of each of the model's answers."""
    features = model.vectorizer.transform([question]) @ model.merged
    scores = np.asarray(features @ model.weights[:-1] + model.weights[-1])[0]
    shares = np.exp(scores - scores.max())
    return [float(share) for share in shares / shares.sum()]
