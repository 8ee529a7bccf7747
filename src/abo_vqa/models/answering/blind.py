"""The blind baselines' answers to every row; loads neither torch nor transformers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from abo_vqa.core.errors import UserError
from abo_vqa.core.json_files import write_json
from abo_vqa.core.paths import BLIND, BLIND_FITS, TRAIN, VQA, predictions_of
from abo_vqa.core.summary import Summary
from abo_vqa.core.tables import read_table, write_table
from abo_vqa.models.answering.sampling import sample_rows
from abo_vqa.models.blind.baselines import VARIANTS, converged, unify_spelling

if TYPE_CHECKING:
    from abo_vqa.core.config import Config


def run_blind(config: Config) -> Summary:
    """Write reports/baselines/blind/<variant>/predictions.csv for each blind baseline.

    Args:
        config: the settings.

    Raises:
        UserError: the train split has no answer.
    """
    rows = sample_rows(
        read_table(VQA, ["image_path", "question"]), config.seed, config.baselines.fraction
    )
    train = read_table(TRAIN, ["question", "answer"])
    questions, answers = unify_spelling(train["question"].tolist(), train["answer"].tolist())
    if not answers:
        raise UserError(f"{TRAIN} has no answer to learn from. Run `dvc repro split`.")
    artifacts: list[Path] = []
    fits: dict[str, dict[str, bool]] = {}
    for variant, fit in VARIANTS.items():
        predictor = fit(questions, answers)
        fits[variant] = {"ended": converged(predictor)}
        predictions, confidences = predictor(rows["question"].tolist())
        table = pd.DataFrame(
            {
                "row_id": rows["row_id"],
                "prediction": predictions,
                "confidence": [f"{confidence:.6f}" for confidence in confidences],
                "error": "",
            }
        )
        artifacts.append(write_table(table, predictions_of(f"blind-{variant}")))
    artifacts.append(write_json(fits, BLIND_FITS))
    unfinished = [variant for variant, fit in fits.items() if not fit["ended"]]
    warning = f"\nunfinished fits: {', '.join(unfinished)}" if unfinished else ""
    return Summary(
        f"blind: {len(rows)} rows → {BLIND}/{{{','.join(VARIANTS)}}}{warning}",
        metrics={"rows": len(rows)},
        params={"fitted_on": str(TRAIN), "unfinished_fits": ", ".join(unfinished) or "none"},
        datasets={"training": TRAIN},
        artifacts=tuple(artifacts),
    )
