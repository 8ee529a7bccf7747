"""Which pairs are kept."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from abo_vqa.core.verify_config import BLIND_VERIFIER

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from abo_vqa.core.verify_config import VerifyConfig


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
    draws = drawn_numbers(table, seed)
    room = max(0, limit - int((blind_right & always).sum()))
    chosen = sorted(np.flatnonzero(blind_right & ~always), key=lambda i: draws[i])[:room]
    kept = ~blind_right | always
    kept[chosen] = True
    return kept


def drawn_numbers(table: pd.DataFrame, seed: int) -> list[str]:
    """[n] a random number of each row, as a text that sorts like it; the smallest stay.

    Args:
        table: columns image_path and question.
        seed: of the draw.
    """
    return [
        hashlib.sha256(f"{seed}\0{image}\0{question}".encode()).hexdigest()
        for image, question in zip(table["image_path"], table["question"], strict=True)
    ]


def reviewed_rows(table: pd.DataFrame) -> NDArray[np.bool_]:
    """[n] the rows that people have kept or corrected.

    Args:
        table: the generated table; without a column `reviewed` there are none.
    """
    if "reviewed" not in table:
        return np.zeros(len(table), dtype=np.bool_)
    return (table["reviewed"] != "").to_numpy(dtype=np.bool_)


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
    reviewed = reviewed_rows(table)
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
