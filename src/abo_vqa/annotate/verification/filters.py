"""Which pairs are kept, and what each filter does to the set."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from abo_vqa.core.verify_config import BLIND_VERIFIER
from abo_vqa.data.normalise import normalise
from abo_vqa.data.questions import question_type

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from abo_vqa.core.verify_config import VerifyConfig

_SHOWN_BLIND_SHARE = 0.2  # the cap that the table of effects shows where none is set


def agreeing(shares: NDArray[np.float64], minimum: float) -> NDArray[np.bool_]:
    """[n] whether enough verifiers agree. Where nobody answered, nothing is held against a pair.

    Args:
        shares: [n] the agreement; NaN where nobody answered.
        minimum: the smallest share that is enough.
    """
    return np.isnan(shares) | (shares >= minimum - 1e-9)


def capped(
    table: pd.DataFrame,
    blind_right: NDArray[np.bool_],
    share: float,
    seed: int,
    reviewed: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
    """[n] the rows that stay if those that need no image are at most a share of what stays.

    Reviewed rows stay, and count: only the room that they leave is for others. Which of these stay
    is drawn by a hash of image, question and seed: it doesn't depend on the order of rows, and a
    smaller share keeps a part of what a larger one keeps.

    Args:
        table: columns image_path and question.
        blind_right: [n] whether the blind predictor gives the answer.
        share: between 0 and 1.
        seed: of the draw.
        reviewed: [n] the rows that stay in any case; None for none.
    """
    always = np.zeros(len(table), dtype=np.bool_) if reviewed is None else reviewed
    others = int((~blind_right).sum())
    limit = int(blind_right.sum()) if share >= 1 else int(share / (1 - share) * others + 1e-9)
    draws = [
        hashlib.sha256(f"{seed}\0{image}\0{question}".encode()).hexdigest()
        for image, question in zip(table["image_path"], table["question"], strict=True)
    ]
    room = max(0, limit - int((blind_right & always).sum()))
    chosen = sorted(np.flatnonzero(blind_right & ~always), key=lambda i: draws[i])[:room]
    kept = ~blind_right | always
    kept[chosen] = True
    return kept


def kept_rows(
    table: pd.DataFrame,
    shares: NDArray[np.float64],
    by_verifier: Mapping[str, pd.Series],
    settings: VerifyConfig,
    seed: int,
) -> NDArray[np.bool_]:
    """[n] the rows that the settings keep: first those agreed on, then the cap.

    Args:
        table: the generated table.
        shares: [n] the agreement.
        by_verifier: verifier → [n] 1, 0, or NaN.
        settings: the filters.
        seed: of the cap's draw.
    """
    # What people have kept or corrected outranks any model.
    reviewed = np.zeros(len(table), dtype=np.bool_)
    if "reviewed" in table:
        reviewed = (table["reviewed"] != "").to_numpy(dtype=bool)
    kept = np.ones(len(table), dtype=np.bool_)
    if settings.min_agreement is not None:
        kept = reviewed | agreeing(shares, settings.min_agreement)
    if settings.blind_share is not None:
        right = (by_verifier[BLIND_VERIFIER] == 1).to_numpy()
        positions = np.flatnonzero(kept)
        inner = capped(table[kept], right[kept], settings.blind_share, seed, reviewed[kept])
        kept = np.zeros(len(table), dtype=np.bool_)
        kept[positions[inner]] = True
    return kept


def effects(
    table: pd.DataFrame,
    shares: NDArray[np.float64],
    by_verifier: Mapping[str, pd.Series],
    kept: NDArray[np.bool_],
    settings: VerifyConfig,
    seed: int,
    blind_accuracy: Callable[[pd.DataFrame], float | None],
) -> dict[str, dict[str, Any]]:
    """Describe the set as it would be after each filter alone, and as it is after those in use.

    Args:
        table: the generated table.
        shares: [n] the agreement.
        by_verifier: verifier → [n] 1, 0, or NaN.
        kept: [n] see `kept_rows`.
        settings: the filters.
        seed: of the cap's draw.
        blind_accuracy: measures it on the rows that are left. Whoever is trained on a filtered set
            learns its priors: a fit on the whole set would find too little in what agrees with a
            model, and nothing at all where it has just been filtered out.

    Returns:
        Filter → pairs, images, top_answer_share, yes_share, answer_bits, blind_accuracy.
    """
    blind = by_verifier.get(BLIND_VERIFIER)
    right = None if blind is None else (blind == 1).to_numpy()
    masks = {"none": np.ones(len(table), dtype=np.bool_)}
    seeing = [name for name in by_verifier if name != BLIND_VERIFIER]
    for name in seeing:
        masks[f"{name} agrees"] = (by_verifier[name] != 0).to_numpy()
    if len(seeing) > 1:
        masks["at least half agree"] = agreeing(shares, 0.5)
        masks["all agree"] = agreeing(shares, 1.0)
    if right is not None:
        share = _SHOWN_BLIND_SHARE if settings.blind_share is None else settings.blind_share
        masks["blind is wrong"] = ~right
        masks[f"blind share {share:g}"] = capped(table, right, share, seed)
    masks["in use"] = kept
    answers = table["answer"].map(normalise)
    closed = (table["question"].map(question_type) == "yes/no").to_numpy()
    measured: dict[bytes, float | None] = {}  # a filter that keeps all rows isn't measured twice
    for mask in masks.values():
        if right is not None and mask.tobytes() not in measured:
            measured[mask.tobytes()] = blind_accuracy(table[mask])
    return {
        name: _describe(table, answers, closed, mask)
        | {"blind_accuracy": measured.get(mask.tobytes())}
        for name, mask in masks.items()
    }


def _describe(
    table: pd.DataFrame,
    answers: pd.Series,
    closed: NDArray[np.bool_],
    mask: NDArray[np.bool_],
) -> dict[str, Any]:
    """Return size and balance of some rows."""
    counts = Counter(answers[mask])
    total = int(mask.sum())
    polar = Counter(answers[mask & closed])
    polar_total = polar["yes"] + polar["no"]
    probabilities = np.array(list(counts.values()), dtype=float) / max(1, total)
    return {
        "pairs": total,
        "images": int(table.loc[mask, "image_path"].nunique()),
        "top_answer_share": round(max(counts.values(), default=0) / max(1, total), 4),
        "yes_share": round(polar["yes"] / polar_total, 4) if polar_total else None,
        "answer_bits": round(float(-(probabilities * np.log2(probabilities)).sum()), 3) + 0.0,
    }
