"""Where a model is right and where it isn't: slices, yes/no, counting, confidence, fractions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from abo_vqa.config import Config
from abo_vqa.metrics.lexical import exact_match
from abo_vqa.metrics.normalise import norm
from abo_vqa.metrics.statistics import bootstrap, interval
from abo_vqa.questions import number

if TYPE_CHECKING:
    from numpy.typing import NDArray

SLICES = (
    "question_type", "question_subtype", "answer_type", "answer_words", "product_type",
    "seen_question", "seen_pair",
)  # fmt: skip
STUDY_FRACTIONS = (0.02, 0.05, 0.10, 0.25, 0.50, 1.00)
FEW = 20  # rows under which a slice isn't called the worst: its interval says nothing
BINS = 10


def slices(
    table: pd.DataFrame, clusters: NDArray[np.int64], config: Config
) -> dict[str, list[dict[str, Any]]]:
    """Accuracy with its interval within each value of each slice, largest first."""
    found: dict[str, list[dict[str, Any]]] = {}
    right = table["accuracy"].to_numpy(dtype=float)
    settings = config.evaluate
    for name in SLICES:
        values, labels = pd.factorize(table[name].astype(str), sort=True)
        # One column a value, NaN outside it: all of a slice's intervals from the same resamples.
        inside = values[:, None] == np.arange(len(labels))  # [n, values]
        columns = np.where(inside, right[:, None], np.nan)
        means = bootstrap(columns, clusters, settings.resamples // 10, config.seed)
        bounds = interval(means, settings.confidence)
        rows = [
            {
                "value": str(labels[i]),
                "n": int(inside[:, i].sum()),
                "accuracy": float(right[inside[:, i]].mean()),
                "low": float(bounds[i, 0]),
                "high": float(bounds[i, 1]),
            }
            for i in range(len(labels))
        ]
        found[name] = sorted(rows, key=lambda row: (-row["n"], row["value"]))
    return found


def worst(cut: Mapping[str, list[dict[str, Any]]], table: pd.DataFrame) -> list[dict[str, Any]]:
    """The slices whose whole interval is below the model's accuracy, in words, worst first."""
    overall = float(table["accuracy"].mean())
    found = [
        {
            "slice": name,
            **row,
            "words": f"{name.replace('_', ' ')} {row['value']}: {row['accuracy']:.1%} of "
            f"{row['n']} rows right, against {overall:.1%} over all",
        }
        for name, rows in cut.items()
        for row in rows
        if row["n"] >= FEW and row["high"] < overall
    ]
    return sorted(found, key=lambda row: (row["accuracy"], row["slice"], row["value"]))[:10]


def yes_no(table: pd.DataFrame) -> dict[str, float]:
    """Recall on "yes" and on "no": a model that always agrees has 1 and 0."""
    answers = np.array([norm(a) for a in table["answer"]])
    right = table["accuracy"].to_numpy(dtype=float)
    found: dict[str, float] = {}
    for value in ("yes", "no"):
        mask = answers == value
        found[f"{value}_n"] = int(mask.sum())
        if mask.any():
            found[f"{value}_recall"] = float(right[mask].mean())
    return found


def counting(table: pd.DataFrame) -> dict[str, float]:
    """How far off counts are: share exact, within one, mean absolute error; not a number: apart."""
    rows = table[(table["question_type"] == "counting") & (table["error"] == "")]
    pairs = [
        (number(norm(p)), number(norm(a)))
        for p, a in zip(rows["prediction"], rows["answer"], strict=True)
    ]
    off = np.array([abs(p - a) for p, a in pairs if p is not None and a is not None])
    found: dict[str, float] = {"n": len(pairs), "not_a_number": len(pairs) - len(off)}
    if len(off):
        found |= {
            "exact": float((off == 0).sum() / len(pairs)),
            "within_one": float((off <= 1).sum() / len(pairs)),
            "mean_absolute_error": float(off.mean()),
        }
    return found


def calibration(table: pd.DataFrame) -> dict[str, Any]:
    """Expected calibration error (Guo et al., 2017), its bins, and the risk-coverage curve.

    Empty for a model that gives no confidence.
    """
    known = table[table["confidence"].notna() & (table["error"] == "")]
    if known.empty:
        return {}
    sure = known["confidence"].to_numpy(dtype=float)
    right = known["accuracy"].to_numpy(dtype=float)
    place = np.minimum((sure * BINS).astype(int), BINS - 1)
    bins = [
        {
            "low": b / BINS,
            "high": (b + 1) / BINS,
            "n": int((place == b).sum()),
            "confidence": float(sure[place == b].mean()),
            "accuracy": float(right[place == b].mean()),
        }
        for b in range(BINS)
        if (place == b).any()
    ]
    error = sum(b["n"] * abs(b["confidence"] - b["accuracy"]) for b in bins) / len(known)
    order = np.argsort(-sure, kind="stable")
    risk = 1 - np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    kept = np.unique(np.linspace(0, len(order) - 1, min(100, len(order))).astype(int))
    return {
        "n": len(known),
        "expected_calibration_error": float(error),
        "bins": bins,
        "risk_coverage": [
            {"coverage": float((i + 1) / len(order)), "risk": float(risk[i])} for i in kept
        ],
        "area_under_risk_coverage": float(risk.mean()),
    }


def fractions(
    predictions: pd.DataFrame, vqa: pd.DataFrame, answered: float
) -> list[dict[str, float]]:
    """Accuracy on the study's fractions of all rows: prefixes of the one sampling order.

    Beside it the study's own variant for its baselines: lower-cased strings, no norm.
    """
    answers = vqa["answer"].iloc[predictions.index].tolist()
    said, failed = predictions["prediction"].tolist(), (predictions["error"] != "").tolist()
    right = [
        0.0 if bad else exact_match(p, a) for p, a, bad in zip(said, answers, failed, strict=True)
    ]
    plain = [
        float(not bad and p.lower() == a.lower())
        for p, a, bad in zip(said, answers, failed, strict=True)
    ]
    found = []
    for fraction in STUDY_FRACTIONS:
        n = int(len(vqa) * fraction)
        if 0 < n <= len(right):
            found.append(
                {
                    "fraction": fraction,
                    "n": n,
                    "accuracy": float(np.mean(right[:n])),
                    "accuracy_lower_case_only": float(np.mean(plain[:n])),
                }
            )
    return found
