"""The blind baselines' answers to every row; loads neither torch nor transformers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from abo_vqa.core.errors import UserError
from abo_vqa.core.paths import TRAIN
from abo_vqa.models.answering.sampling import sample_rows
from abo_vqa.models.blind.baselines import VARIANTS, converged, unify_spelling

if TYPE_CHECKING:
    from abo_vqa.core.config import Config


@dataclass(frozen=True)
class BlindAnswers:
    """One blind baseline's answers.

    Attributes:
        predictions: columns row_id, prediction, confidence, error.
        converged: whether its fit converged.
    """

    predictions: pd.DataFrame
    converged: bool


def answer_blind(
    config: Config, table: pd.DataFrame, train: pd.DataFrame
) -> dict[str, BlindAnswers]:
    """Fit each blind baseline and answer the rows.

    Args:
        config: the settings.
        table: columns image_path and question, of all rows.
        train: columns question and answer, of the train split.

    Returns:
        Variant → its answers.

    Raises:
        UserError: the train split has no answer.
    """
    rows = sample_rows(table, config.seed, config.baselines.fraction)
    questions, answers = unify_spelling(train["question"].tolist(), train["answer"].tolist())
    if not answers:
        raise UserError(f"{TRAIN} has no answer to learn from. Run `dvc repro split`.")
    results = {}
    for variant, fit in VARIANTS.items():
        predictor = fit(questions, answers)
        ended = converged(predictor)
        predictions, confidences = predictor(rows["question"].tolist())
        columns = {
            "row_id": rows["row_id"],
            "prediction": predictions,
            "confidence": [f"{confidence:.6f}" for confidence in confidences],
            "error": "",
        }
        results[variant] = BlindAnswers(pd.DataFrame(columns), ended)
    return results
