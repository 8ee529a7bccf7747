"""The study's printed numbers (reference data beside this module), next to a run's."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from abo_vqa.core.paths import FINETUNED_MODEL
from abo_vqa.core.tables import read_table
from abo_vqa.reporting.inputs import Results

_FOLDER = Path(__file__).parent
_NAN = float("nan")
STUDY_ROWS = 45_482  # question-answer pairs in the study


def study_table() -> pd.DataFrame:
    """Return the study's Table 1: model, name, rows, accuracy, bertscore_f1."""
    table = read_table(_FOLDER / "study_table1.csv")
    table["rows"] = table["rows"].astype(int)
    for column in ("accuracy", "bertscore_f1"):
        table[column] = pd.to_numeric(table[column])
    return table


def accuracies_side_by_side(results: Results) -> pd.DataFrame:
    """Return the study's accuracies and this run's, each of its models at its largest sample.

    Returns:
        The columns model, study, value, low, high, by the study's accuracy.
    """
    rows = []
    for model, part in study_table().groupby("model", sort=False):
        low, high = results.interval(str(model)) or (_NAN, _NAN)
        value = results.metrics.get(str(model), {}).get("accuracy", _NAN)
        if model == FINETUNED_MODEL and not _fine_tunes_blip(results):
            value = low = high = _NAN  # the study's is BLIP
        accuracy = part.iloc[-1]["accuracy"]
        rows.append({"model": model, "study": accuracy, "value": value, "low": low, "high": high})
    table = pd.DataFrame(rows).sort_values("study", ascending=False, kind="stable")
    return table.reset_index(drop=True)


def finetuned_side_by_side(results: Results) -> pd.DataFrame:
    """Return the fine-tuned model's further metrics, as far as they are between 0 and 1.

    Returns:
        The columns metric, study, value, low, high.
    """
    table = read_table(_FOLDER / "study_finetuned.csv").rename(columns={"value": "study"})
    table["study"] = pd.to_numeric(table["study"])
    table = table[table["study"] >= 0]
    same = _fine_tunes_blip(results)
    metrics = results.metrics.get(FINETUNED_MODEL, {}) if same else {}
    table["value"] = [metrics.get(metric, _NAN) for metric in table["metric"]]
    bounds = [
        (same and results.interval(FINETUNED_MODEL, metric)) or (_NAN, _NAN)
        for metric in table["metric"]
    ]
    table["low"], table["high"] = zip(*bounds, strict=True)
    return table.reset_index(drop=True)


def _fine_tunes_blip(results: Results) -> bool:
    """Tell whether the run's fine-tuned model has the study's base."""
    return results.config.lora.model == "blip"
