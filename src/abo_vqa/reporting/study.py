"""The published study's printed numbers (reference data, beside this module) next to a run's."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from abo_vqa.reporting.inputs import Results

_HERE = Path(__file__).parent
_NAN = float("nan")
ALL_ROWS = 45_482  # question-answer pairs in the study


def table1() -> pd.DataFrame:
    """The study's Table 1: model, name, rows, accuracy, bertscore_f1."""
    return pd.read_csv(_HERE / "study_table1.csv")


def side_by_side(results: Results) -> pd.DataFrame:
    """Each of the study's models at its largest sample, with this run's accuracy and interval."""
    rows = []
    for model, part in table1().groupby("model", sort=False):
        last = part.iloc[-1]
        low, high = results.interval(str(model)) or (_NAN, _NAN)
        ours = results.metrics.get(str(model), {})
        rows.append(
            {"model": model, "name": last["name"], "rows": last["rows"], "study": last["accuracy"],
             "study_bertscore_f1": last["bertscore_f1"], "value": ours.get("accuracy", _NAN),
             "low": low, "high": high, "bertscore_f1": ours.get("bertscore_f1", _NAN)}
        )  # fmt: skip
    return pd.DataFrame(rows).sort_values("study", ascending=False, kind="stable").reset_index()


def finetuned_side_by_side(results: Results) -> pd.DataFrame:
    """The fine-tuned model's further metrics between 0 and 1: the study's and this run's."""
    study = pd.read_csv(_HERE / "study_finetuned.csv")
    study = study[study["value"] >= 0].rename(columns={"value": "study"})
    ours = results.metrics.get("finetuned", {})
    study["value"] = [ours.get(metric, _NAN) for metric in study["metric"]]
    bounds = [results.interval("finetuned", metric) or (_NAN, _NAN) for metric in study["metric"]]
    study["low"], study["high"] = zip(*bounds, strict=True)
    return study.reset_index(drop=True)
