"""What each filter does to the set: its size, its balance, and what needs no image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from abo_vqa.annotate.verification.blind_accuracy import UNMEASURED
from abo_vqa.annotate.verification.filters import agreeing, capped
from abo_vqa.core.progress import progress
from abo_vqa.core.verify_config import BLIND_VERIFIER
from abo_vqa.data.normalise import normalise
from abo_vqa.data.pairs import CORRECTED, GATE_REASONS, REVIEW
from abo_vqa.data.questions import question_type

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from abo_vqa.core.verify_config import VerifyConfig

BEFORE_GATE, BEFORE_REVIEWS = "before quality gate", "before reviews"
"""The names of the sets that were filtered before anybody was asked for a second opinion."""
_SHOWN_BLIND_SHARE = 0.2  # the cap that the table of effects shows where none is set
_PAIR = ["image_path", "question", "answer"]


def earlier_sets(table: pd.DataFrame, rejects: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the set as it was before the quality gate, and before people's reviews.

    A pair that an annotator wrote in the place of one that people rejected is in all of them.

    Args:
        table: the generated table.
        rejects: columns image_path, question, answer, reason: what was rejected or corrected.

    Returns:
        `BEFORE_GATE` and `BEFORE_REVIEWS` → the rows. What a table knows of an image beyond its
        path is added to the image's rejects, so that they are grouped alike.
    """
    reviewed = before_reviews(table, rejects)
    by_gate = rejects[rejects["reason"].isin(GATE_REASONS)]
    return {BEFORE_GATE: _with_rows(reviewed, by_gate[_PAIR], table), BEFORE_REVIEWS: reviewed}


def before_reviews(table: pd.DataFrame, rejects: pd.DataFrame) -> pd.DataFrame:
    """Return the rows as an annotator wrote them: see `earlier_sets`.

    Args:
        table: the generated table.
        rejects: columns image_path, question, answer, reason: what was rejected or corrected.
    """
    corrected = rejects["reason"] == CORRECTED
    by_people = rejects[corrected | (rejects["reason"] == REVIEW)]
    pair = ["image_path", "question"]
    replaced = pd.MultiIndex.from_frame(rejects.loc[corrected, pair])
    is_new = pd.MultiIndex.from_frame(table[pair]).isin(replaced)
    if "reviewed" in table:
        is_new &= (table["reviewed"] == CORRECTED).to_numpy()
    return _with_rows(table[~is_new], by_people[_PAIR], table)


def _with_rows(rows: pd.DataFrame, more: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Append rows; their other columns are those of the image's first row in the table, or ""."""
    images = table.drop(columns=_PAIR[1:]).drop_duplicates("image_path")
    added = more.merge(images, on="image_path", how="left").fillna("")
    return pd.concat([rows, added], ignore_index=True)[list(table)]


def filtered_sets(
    table: pd.DataFrame,
    shares: NDArray[np.float64],
    by_verifier: Mapping[str, pd.Series],
    kept: NDArray[np.bool_],
    settings: VerifyConfig,
    seed: int,
) -> dict[str, pd.DataFrame]:
    """Return the set as it would be after each filter alone, and as it is after those in use.

    Args:
        table: the generated table.
        shares: [n] the agreement.
        by_verifier: verifier → [n] 1, 0, or NaN.
        kept: [n] see `kept_rows`.
        settings: the filters.
        seed: of the cap's draw.

    Returns:
        Filter → the rows that it leaves.
    """
    masks = {"none": np.ones(len(table), dtype=np.bool_)}
    seeing = [name for name in by_verifier if name != BLIND_VERIFIER]
    for name in seeing:
        masks[f"{name} agrees"] = (by_verifier[name] != 0).to_numpy()
    if len(seeing) > 1:
        masks["at least half agree"] = agreeing(shares, 0.5)
        masks["all agree"] = agreeing(shares, 1.0)
    if seeing and np.isnan(shares).any():
        masks["answered"] = ~np.isnan(shares)
    if BLIND_VERIFIER in by_verifier:
        right = (by_verifier[BLIND_VERIFIER] == 1).to_numpy()
        share = _SHOWN_BLIND_SHARE if settings.blind_share is None else settings.blind_share
        masks["blind is wrong"] = ~right
        masks[f"blind share {share:g}"] = capped(table, right, share, seed)
    masks["in use"] = kept
    return {name: table[mask] for name, mask in masks.items()}


def effects(
    sets: Mapping[str, pd.DataFrame],
    measure: Callable[[pd.DataFrame], Mapping[str, Any]] | None,
    known: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> dict[str, dict[str, Any]]:
    """Describe some sets.

    Args:
        sets: filter → the rows that it leaves.
        measure: the blind accuracy of the rows that are left, as `BlindMeasure.measure` returns it;
            None if nobody wants to know. Whoever is trained on a filtered set learns its priors: a
            fit on the whole set would find too little in what agrees with a model, and nothing at
            all where it has just been filtered out.
        known: filter → the same, where that has been measured already.

    Returns:
        Filter → pairs, images, top_answer_share, yes_share, answer_bits, blind_accuracy,
        blind_interval.
    """
    # Equal sets are measured once.
    measured = {_content(sets[name]): known[name] for name in known}
    result = {}
    for name, rows in progress(sets.items(), desc="what filters do", unit="filter"):
        key = _content(rows)
        if measure is not None and key not in measured:
            measured[key] = measure(rows)
        result[name] = {**_describe(rows), **measured.get(key, UNMEASURED)}
    return result


def _content(rows: pd.DataFrame) -> bytes:
    return pd.util.hash_pandas_object(rows[_PAIR], index=False).to_numpy().tobytes()


def _describe(rows: pd.DataFrame) -> dict[str, Any]:
    """Return size and balance of some rows."""
    answers = rows["answer"].map(normalise)
    closed = (rows["question"].map(question_type) == "yes/no").to_numpy(dtype=bool)
    counts, polar = Counter(answers), Counter(answers[closed])
    total, polar_total = len(rows), polar["yes"] + polar["no"]
    probabilities = np.array(list(counts.values()), dtype=float) / max(1, total)
    return {
        "pairs": total,
        "images": int(rows["image_path"].nunique()),
        "top_answer_share": round(max(counts.values(), default=0) / max(1, total), 4),
        "yes_share": round(polar["yes"] / polar_total, 4) if polar_total else None,
        "answer_bits": round(float(-(probabilities * np.log2(probabilities)).sum()), 3) + 0.0,
    }
