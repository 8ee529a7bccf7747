"""Where a model is right and where it isn't: slices, yes/no, counting, confidence, fractions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from abo_vqa.config import Config
from abo_vqa.data.normalise import normalise
from abo_vqa.data.questions import parse_number
from abo_vqa.evaluation.statistics import bootstrap_slices, interval, wilson

if TYPE_CHECKING:
    from numpy.typing import NDArray

SLICES = (
    "question_type", "question_subtype", "answer_type", "answer_words", "answer_frequency",
    "image_rows", "product_type", "seen_question", "seen_pair",
)  # fmt: skip
_STUDY_FRACTIONS = (0.02, 0.05, 0.10, 0.25, 0.50, 1.00)
_FEW = 20  # rows under which a slice isn't called the worst: its interval says nothing
_BINS = 10
PARTS = 32  # slices' values that are resampled at once

_Cut = dict[str, list[dict[str, Any]]]


def slices(
    scored: Mapping[str, pd.DataFrame],
    clusters: NDArray[np.int64],
    config: Config,
    names: Sequence[str] = SLICES,
) -> dict[str, _Cut]:
    """Each model's accuracy within each value of each slice, largest first.

    The models' tables have the same rows. Intervals are bootstrapped over images; where a model
    has all or none of a slice's rows right, resampling would claim certainty, and the interval is
    Wilson's for as many trials as the slice has images.

    Returns:
        model → slice → [{"value", "n", "accuracy", "low", "high"}].
    """
    right = np.column_stack([t["accuracy"].to_numpy(dtype=float) for t in scored.values()])
    places = parts(next(iter(scored.values())), names)
    bounds = _part_intervals(right, list(places.values()), clusters, config)
    confidence = config.evaluate.confidence
    found: dict[str, _Cut] = {model: {name: [] for name in names} for model in scored}
    for k, ((name, value), rows) in enumerate(places.items()):
        images = len(np.unique(clusters[rows]))
        for m, model in enumerate(scored):
            accuracy = float(right[rows, m].mean())
            low, high = bounds[k, m]
            if accuracy in (0.0, 1.0):
                low, high = wilson(accuracy * images, images, confidence)
            found[model][name].append(
                {"value": value, "n": int(rows.sum()), "accuracy": accuracy,
                 "low": float(low), "high": float(high)}
            )  # fmt: skip
    return found


def _part_intervals(
    right: NDArray[np.float64],
    inside: Sequence[NDArray[np.bool_]],
    clusters: NDArray[np.int64],
    config: Config,
) -> NDArray[np.float64]:
    """[K, M, 2] each model's interval within each part of the rows.

    Every batch of parts sees the same resamples: drawing them again is cheap, and hundreds of
    product types at once would take a gigabyte.
    """
    settings = config.evaluate
    bounds = []
    for start in range(0, len(inside), PARTS):
        some = np.column_stack(inside[start : start + PARTS])  # [n, up to PARTS]
        means = bootstrap_slices(right, some, clusters, settings.resamples, config.seed)
        bounds.append(interval(means, settings.confidence))
    return np.concatenate(bounds).reshape(len(inside), right.shape[1], 2)


def parts(rows: pd.DataFrame, names: Sequence[str]) -> dict[tuple[str, str], NDArray[np.bool_]]:
    """(slice, value) → [n] which rows have it; a slice's largest first, equal ones by name."""
    found = {}
    for name in names:
        labels, values = pd.factorize(rows[name].astype(str), sort=True)
        for i in np.argsort(-np.bincount(labels), kind="stable"):
            found[name, str(values[i])] = labels == i
    return found


def worst(cut: _Cut, table: pd.DataFrame) -> list[dict[str, Any]]:
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
        if row["n"] >= _FEW and row["high"] < overall
    ]
    return sorted(found, key=lambda row: (row["accuracy"], row["slice"], row["value"]))[:10]


def yes_no(table: pd.DataFrame) -> dict[str, float]:
    """Recall on "yes" and on "no": a model that always agrees has 1 and 0."""
    answers = np.array([normalise(a) for a in table["answer"]])
    right = table["accuracy"].to_numpy(dtype=float)
    found: dict[str, float] = {}
    for value in ("yes", "no"):
        mask = answers == value
        found[f"{value}_n"] = int(mask.sum())
        if mask.any():
            found[f"{value}_recall"] = float(right[mask].mean())
    if {"yes_recall", "no_recall"} <= set(found):
        found["balanced_accuracy"] = (found["yes_recall"] + found["no_recall"]) / 2
        said = np.array([normalise(p) for p in table["prediction"]])
        found["yes_share"] = float((said[np.isin(answers, ("yes", "no"))] == "yes").mean())
    return found


def counting(table: pd.DataFrame) -> dict[str, float]:
    """How far off counts are: share exact, within one, mean absolute error; not a number: apart."""
    rows = table[(table["question_type"] == "counting") & (table["error"] == "")]
    pairs = [
        (parse_number(normalise(p)), parse_number(normalise(a)))
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

    Risk at a coverage (Geifman & El-Yaniv, 2017) is the share wrong among the rows the model is
    surest of; equally sure rows enter together, so that their order doesn't matter.

    Empty for a model that gives no confidence.
    """
    known = table[table["confidence"].notna() & (table["error"] == "")]
    if known.empty:
        return {}
    sure = known["confidence"].to_numpy(dtype=float)
    right = known["accuracy"].to_numpy(dtype=float)
    place = np.clip((sure * _BINS).astype(int), 0, _BINS - 1)
    bins = [
        {
            "low": b / _BINS,
            "high": (b + 1) / _BINS,
            "n": int((place == b).sum()),
            "confidence": float(sure[place == b].mean()),
            "accuracy": float(right[place == b].mean()),
        }
        for b in range(_BINS)
        if (place == b).any()
    ]
    error = sum(b["n"] * abs(b["confidence"] - b["accuracy"]) for b in bins) / len(known)
    coverage, risk = risk_coverage(sure, right)
    steps = np.diff(coverage, prepend=0.0)
    kept = np.unique(np.linspace(0, len(risk) - 1, min(100, len(risk))).round().astype(int))
    return {
        "n": len(known),
        "expected_calibration_error": float(error),
        "bins": bins,
        "risk_coverage": [{"coverage": float(coverage[i]), "risk": float(risk[i])} for i in kept],
        "area_under_risk_coverage": float((risk * steps).sum()),
    }


def risk_coverage(
    sure: NDArray[np.float64], right: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coverage and risk [K] after each of the K distinct confidences, the highest first."""
    levels, place = np.unique(-sure, return_inverse=True)
    answered = np.cumsum(np.bincount(place, minlength=len(levels)))
    correct = np.cumsum(np.bincount(place, weights=right, minlength=len(levels)))
    return answered / len(sure), 1 - correct / answered


def fractions(table: pd.DataFrame, rows: int, metrics: Sequence[str]) -> list[dict[str, float]]:
    """Scores on the study's fractions of all `rows`: prefixes of the one sampling order.

    Args:
        table: one model's answers in sampling order: prediction, answer, error, accuracy and a
            column a metric.
    Returns:
        [{"fraction", "n", "accuracy", "accuracy_lower_case_only", metric…}]; the second accuracy
        is the study's own for its baselines, without normalisation.
    """
    plain = _lower_case_only(table)
    found = []
    for fraction in _STUDY_FRACTIONS:
        n = int(rows * fraction)
        if 0 < n <= len(table):
            part = table.iloc[:n]
            means = {m: float(part[m].mean()) for m in metrics if part[m].notna().any()}
            found.append(
                {
                    "fraction": fraction,
                    "n": n,
                    "accuracy": float(part["accuracy"].mean()),
                    "accuracy_lower_case_only": float(plain[:n].mean()),
                    **means,
                }
            )
    return found


def _lower_case_only(table: pd.DataFrame) -> NDArray[np.float64]:
    """[n] 1 where the lower-cased strings are equal: how the study scored its baselines."""
    same = table["prediction"].str.lower() == table["answer"].str.lower()
    return np.asarray(same & (table["error"] == ""), dtype=np.float64)


def study_variants(table: pd.DataFrame) -> dict[str, float]:
    """The test rows' accuracy as the study prints it, for comparison with its own tables.

    Lower-cased strings for the baselines; for the fine-tuned model F1, under the name of accuracy.
    """
    return {
        "accuracy_lower_case_only": float(_lower_case_only(table).mean()),
        "f1_as_accuracy": float(table["f1"].fillna(0.0).mean()),
    }
