"""What ranked decoding can answer at all: which test answers are among the candidates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from abo_vqa.data.normalise import normalise
from abo_vqa.models.answers import CandidateAnswers
from abo_vqa.models.candidates import by_frequency

if TYPE_CHECKING:
    from abo_vqa.core.config import RankingConfig


def describe_candidates(
    train: pd.DataFrame, test: pd.DataFrame, ranking: RankingConfig
) -> dict[str, Any]:
    """Count the candidates, and the test rows whose answer is one of them.

    Args:
        train: has the column answer, whose values are the candidates.
        test: has the column answer.
        ranking: the settings.

    Returns:
        The number of candidates, the settings, and the share of rows that can be answered right.
    """
    candidates = CandidateAnswers(
        by_frequency(train["answer"]), ranking.candidates, ranking.shortlist
    )
    known = {normalise(text) for text in candidates.pool}
    covered = [normalise(answer) in known for answer in test["answer"]]
    return {
        "candidates": len(candidates.texts),
        "shortlist": ranking.shortlist,
        "k": min(ranking.candidates, len(candidates.texts)),
        "covered": sum(covered) / len(covered),
    }
