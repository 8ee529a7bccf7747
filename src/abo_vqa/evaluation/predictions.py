"""Tables of predictions, by model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from abo_vqa.core.errors import UserError
from abo_vqa.core.paths import FINETUNED_MODEL, FINETUNED_MODELS, VQA
from abo_vqa.core.tables import iter_table
from abo_vqa.models.blind.baselines import VARIANTS

if TYPE_CHECKING:
    from numpy.typing import NDArray

_COLUMNS = ("row_id", "prediction", "confidence", "error")


def answering_models(models: Sequence[str], *, ranked: bool) -> list[str]:
    """Return the names of the models whose predictions are evaluated.

    Args:
        models: names in `baselines.models`; "blind" stands for one model per variant.
        ranked: whether the fine-tuned model also ranks known answers (`ranking.finetuned`).

    Returns:
        The baselines' names, and the fine-tuned model's.
    """
    blind = [f"blind-{variant}" for variant in VARIANTS]
    baselines = [name for model in models for name in (blind if model == "blind" else [model])]
    return [*dict.fromkeys(baselines), *(FINETUNED_MODELS if ranked else [FINETUNED_MODEL])]


def unfinished_fits(fits: Mapping[str, Mapping[str, bool | str]]) -> list[str]:
    """Return the blind models whose fit stopped before it converged.

    They may be capable of more than they score.

    Args:
        fits: blind variant → whether its fit ended (the content of fits.json).
    """
    return [f"blind-{name}" for name, fit in fits.items() if not fit["ended"]]


def partial_fits(fits: Mapping[str, Mapping[str, bool | str]]) -> dict[str, str]:
    """Return the blind models that were fitted on a part of a large train split, and which part.

    They may be capable of more than they score.

    Args:
        fits: the content of fits.json.
    """
    return {f"blind-{name}": str(fit["part"]) for name, fit in fits.items() if "part" in fit}


def fit_limits(fits: Mapping[str, Mapping[str, bool | str]]) -> dict[str, Any]:
    """Return `unfinished_fits` and `partial_fits` by name.

    Args:
        fits: the content of fits.json.
    """
    return {"unfinished_fits": unfinished_fits(fits), "partial_fits": partial_fits(fits)}


def read_predictions(path: Path, rows: int, only: NDArray[np.int64] | None = None) -> pd.DataFrame:
    """Read a model's predictions.

    Args:
        path: a table with the columns row_id, prediction, confidence and error.
        rows: number of rows that can be answered.
        only: rows whose predictions are wanted; the others are checked, but take no memory.

    Returns:
        prediction, confidence (NaN for none) and error, by row_id.

    Raises:
        UserError: a column is missing, a row occurs twice, or isn't one of the `rows` rows.
    """
    remedy = "Run the stage that makes it again."
    known = np.zeros(rows, dtype=np.bool_)
    wanted = np.zeros(rows, dtype=np.bool_)
    wanted[slice(None) if only is None else only] = True
    parts = []
    for part in iter_table(path, _COLUMNS):
        try:
            row_ids = part["row_id"].astype(int).to_numpy()
            confidence = part["confidence"].replace("", "nan").astype(float)
        except ValueError as error:
            raise UserError(
                f"{path}: row_id and confidence are numbers: {error}. {remedy}"
            ) from error
        unknown = (row_ids < 0) | (row_ids >= rows)
        if unknown.any():
            raise UserError(
                f"{path} answers row {row_ids[unknown][0]}, but {VQA} has rows 0 to {rows - 1}. "
                f"{remedy}"
            )
        repeated = known[row_ids] | pd.Index(row_ids).duplicated()
        if repeated.any():
            raise UserError(f"{path} has row {row_ids[repeated][0]} twice. {remedy}")
        known[row_ids] = True
        table = part.assign(row_id=row_ids, confidence=confidence)
        parts.append(table if only is None else table[wanted[row_ids]])
    return pd.concat(parts).set_index("row_id")


def join_predictions(rows: pd.DataFrame, predictions: pd.DataFrame, model: str) -> pd.DataFrame:
    """Join a model's predictions to the test rows.

    Args:
        rows: the test rows, with the column row_id.
        predictions: as `read_predictions` returns them.
        model: the model's name, for the message.

    Returns:
        The rows with prediction, confidence and error; a row without a prediction has an error.

    Raises:
        UserError: no test row has a prediction.
    """
    joined = predictions.reindex(rows["row_id"])
    missing = joined["prediction"].isna().to_numpy(dtype=bool)
    if missing.all():
        raise UserError(
            f"{model} has no prediction for any test row. Run the baselines with "
            "baselines.fraction: 1.0, or a fraction large enough to include some."
        )
    error = joined["error"].where(~missing, "not predicted: outside baselines.fraction")
    return rows.assign(
        prediction=joined["prediction"].fillna("").to_numpy(),
        confidence=joined["confidence"].to_numpy(dtype=float),
        error=error.to_numpy(),
    )
