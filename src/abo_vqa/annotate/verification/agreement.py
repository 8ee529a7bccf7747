"""How far verifiers agree with the generated answers, row by row."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from abo_vqa.core.errors import UserError
from abo_vqa.core.verify_config import BLIND_VERIFIER

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from abo_vqa.annotate.verification.blind import AnswerMatcher

AGREEMENT = "agreement"
"""The column with the share of the verifiers that see the image and give the generated answer."""


def answer_column(name: str) -> str:
    """Return the name of the column with a verifier's answers.

    Args:
        name: the verifier.
    """
    return f"answer_{name}"


def refuse_own_columns(table: pd.DataFrame, names: Collection[str]) -> None:
    """Refuse a table that has columns of the names that the second opinion's get.

    Args:
        table: the generated table.
        names: the verifiers.

    Raises:
        UserError: it has; nobody has been asked yet.
    """
    added = [*map(answer_column, names), *([AGREEMENT] if names else [])]
    if own := [column for column in added if column in table]:
        raise UserError(
            f"the table has its own column(s) {', '.join(own)}, where the second opinion would be "
            "written. Rename or remove them in the table that generate.file names, or take the "
            "verifiers out of verify.models."
        )


def agreements(
    table: pd.DataFrame, answers: Mapping[str, pd.DataFrame], matches: AnswerMatcher
) -> dict[str, pd.Series]:
    """Compare each verifier's answers with the generated ones.

    Args:
        table: column answer.
        answers: verifier → columns prediction and error, in the order of the table's rows.
        matches: when two answers mean the same.

    Returns:
        Verifier → [n] 1 if it agrees, 0 if not, NaN if it couldn't answer.
    """
    result = {}
    for name, own in answers.items():
        pairs = zip(own["prediction"], table["answer"], strict=True)
        same = np.array([matches(*pair) for pair in pairs], dtype=float)
        failed = (own["error"] != "").to_numpy(dtype=bool)
        result[name] = pd.Series(np.where(failed, np.nan, same))
    return result


def mean_agreement(by_verifier: Mapping[str, pd.Series]) -> NDArray[np.float64]:
    """[n] the share of those who saw the image and answered that agree; NaN without any.

    The blind verifier doesn't count: that it gives an answer says nothing for its being right, and
    much for the question's needing no image.

    Args:
        by_verifier: see `agreements`.
    """
    seeing = {name: agrees for name, agrees in by_verifier.items() if name != BLIND_VERIFIER}
    if not seeing:
        return np.full(len(next(iter(by_verifier.values()))), np.nan)
    frame = pd.DataFrame(seeing)
    shares: NDArray[np.float64] = frame.mean(axis="columns", skipna=True).to_numpy(dtype=float)
    return shares


def with_opinions(
    table: pd.DataFrame, answers: Mapping[str, pd.DataFrame], shares: NDArray[np.float64]
) -> pd.DataFrame:
    """Return the table with each verifier's answers and the agreement.

    Args:
        table: the generated table.
        answers: verifier → its answers, column prediction.
        shares: see `mean_agreement`.
    """
    columns = {
        answer_column(name): own["prediction"].to_numpy(dtype=object)
        for name, own in answers.items()
    }
    texts = ["" if np.isnan(share) else f"{share:.4g}" for share in shares]
    return table.assign(**columns, **{AGREEMENT: texts})
