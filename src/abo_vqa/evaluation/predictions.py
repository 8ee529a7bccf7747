"""Prediction tables, by model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from abo_vqa.core.errors import UserError
from abo_vqa.core.json_files import read_json
from abo_vqa.core.tables import read_table

if TYPE_CHECKING:
    pass
from abo_vqa.core.paths import BLIND, VQA, predictions_of

_BLIND_VARIANTS = ("majority", "type", "question", "ngram")


COLUMNS = ("row_id", "prediction", "confidence", "error")


def prediction_files(models: Sequence[str]) -> dict[str, Path]:
    """Model → its predictions; the stage `baseline@blind` holds one model a variant."""
    files: dict[str, Path] = {}
    for model in models:
        names = [f"blind-{variant}" for variant in _BLIND_VARIANTS] if model == "blind" else [model]
        files |= {name: predictions_of(name) for name in names}
    return files


def unfinished_fits(models: Sequence[str]) -> list[str]:
    """Blind models whose fit stopped before its end: they may be worth more than they score."""
    file = BLIND / "fits.json"
    if "blind" not in models or not file.is_file():
        return []
    return [f"blind-{name}" for name, found in read_json(file).items() if not found["ended"]]


def read_predictions(path: Path, rows: int) -> pd.DataFrame:
    """Predictions by row_id: prediction, confidence (NaN: none given), error.

    Raises:
        UserError: a column is missing, a row is there twice, or isn't one of the `rows` rows.
    """
    table = read_table(path, COLUMNS)
    again = "Run the stage that makes it again."
    try:
        table["row_id"] = table["row_id"].astype(int)
        table["confidence"] = table["confidence"].replace("", "nan").astype(float)
    except ValueError as error:
        raise UserError(f"{path}: row_id and confidence are numbers: {error}. {again}") from error
    twice = table.loc[table["row_id"].duplicated(), "row_id"]
    if len(twice):
        raise UserError(f"{path} has row {twice.iloc[0]} twice. {again}")
    foreign = table.loc[~table["row_id"].between(0, rows - 1), "row_id"]
    if len(foreign):
        raise UserError(
            f"{path} answers row {foreign.iloc[0]}, but {VQA} has rows 0 to {rows - 1}. {again}"
        )
    return table.set_index("row_id")


def join(rows: pd.DataFrame, predictions: pd.DataFrame, model: str) -> pd.DataFrame:
    """The test rows with a model's predictions; a row without one failed, and says so.

    Raises:
        UserError: no test row has a prediction.
    """
    found = predictions.reindex(rows["row_id"])
    table = rows.copy()
    missing = found["prediction"].isna().to_numpy(dtype=bool)
    if missing.all():
        raise UserError(
            f"{model} has no prediction for any test row. Run the baselines with "
            "baselines.fraction: 1.0, or a fraction large enough to reach some."
        )
    table["prediction"] = found["prediction"].fillna("").to_numpy()
    table["confidence"] = found["confidence"].to_numpy(dtype=float)
    error = found["error"].fillna("").to_numpy(dtype=object, copy=True)
    error[missing] = "not predicted: outside baselines.fraction"
    table["error"] = error
    return table
