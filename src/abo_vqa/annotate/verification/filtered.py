"""The generated table behind the filters, and what data/verification.json says of that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from abo_vqa.annotate.verification.agreement import agreements, mean_agreement
from abo_vqa.annotate.verification.blind_accuracy import (
    SAMPLED_SHARE,
    BlindMeasure,
    ShareInterval,
)
from abo_vqa.annotate.verification.counts import unanswered_count, verifier_counts
from abo_vqa.annotate.verification.effects import earlier_sets, effects, filtered_sets
from abo_vqa.annotate.verification.filters import kept_rows
from abo_vqa.core.errors import UserError
from abo_vqa.core.verify_config import BLIND_VERIFIER

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from abo_vqa.annotate.verification.blind import AnswerMatcher
    from abo_vqa.core.config import Config


@dataclass(frozen=True)
class FilteredTable:
    """The generated table, and what the filters make of its n rows.

    Attributes:
        table: its rows.
        by_verifier: verifier → [n] 1, 0, or NaN.
        shares: [n] the agreement.
        kept: [n] the rows that stay.
    """

    table: pd.DataFrame
    by_verifier: Mapping[str, pd.Series]
    shares: NDArray[np.float64]
    kept: NDArray[np.bool_]


def apply_filters(
    config: Config,
    table: pd.DataFrame,
    answers: Mapping[str, pd.DataFrame],
    matches: AnswerMatcher,
) -> FilteredTable:
    """Compare the verifiers' answers with the generated ones, and filter.

    Args:
        config: the filters, and the seed of the cap's draw.
        table: the generated table.
        answers: verifier → columns prediction and error, of the table's rows.
        matches: when two answers mean the same.

    Raises:
        UserError: the filters leave no pair.
    """
    by_verifier = agreements(table, answers, matches)
    shares = mean_agreement(by_verifier)
    kept = kept_rows(table, shares, by_verifier, config.verify, config.seed)
    if not kept.any():
        raise UserError(
            f"verify: none of the {len(table):,} pairs is left. Lower verify.min_agreement "
            f"({config.verify.min_agreement}) or raise verify.blind_share "
            f"({config.verify.blind_share})."
        )
    return FilteredTable(table, by_verifier, shares, kept)


def verification_record(
    config: Config,
    filtered: FilteredTable,
    rejects: pd.DataFrame,
    matches: AnswerMatcher,
    interval: ShareInterval,
) -> dict[str, Any]:
    """Return the content of data/verification.json but for the reviews.

    Args:
        config: the filters, and how far look-alikes may differ.
        filtered: what the filters do to the table.
        rejects: columns image_path, question, answer, reason: what was rejected or corrected.
        matches: when two answers mean the same.
        interval: of a share.
    """
    table, by_verifier, active = filtered.table, filtered.by_verifier, config.verify.filters
    sets = earlier_sets(table, rejects) | filtered_sets(
        table, filtered.shares, by_verifier, filtered.kept, config.verify, config.seed
    )
    blind, known = None, {}
    if BLIND_VERIFIER in by_verifier:
        blind = BlindMeasure.of(config, matches, interval, sets)
        if blind.sampled is None:  # the blind verifier has answered all rows in the same way
            known["none"] = blind.described(by_verifier[BLIND_VERIFIER], table["image_path"])
    return {
        "pairs": len(table),
        "kept": int(filtered.kept.sum()),
        **({} if filtered.kept.all() or not active else {"filtered_by": active}),
        **unanswered_count(filtered.shares[filtered.kept], by_verifier),
        "verifiers": verifier_counts(by_verifier),
        "filters": effects(sets, blind.measure if blind else None, known),
        **({"blind_sample": SAMPLED_SHARE} if blind and blind.sampled is not None else {}),
    }
