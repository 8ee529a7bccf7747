"""Which of the pairs that people reviewed the filters would have kept, and how many are wrong.

What people kept or corrected stays in the set whatever the verifiers answer, and what they rejected
has left it before. But the rows that nobody reviewed have passed the filters: how many of these are
wrong is told by the reviewed pairs that would have passed, as they were written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from abo_vqa.annotate.draws import DRAWN_COLUMN, SUSPICIOUS
from abo_vqa.annotate.verification.agreement import agreements, mean_agreement
from abo_vqa.annotate.verification.asked import QUESTION
from abo_vqa.annotate.verification.filters import agreeing, drawn_numbers, reviewed_rows
from abo_vqa.core.verify_config import BLIND_VERIFIER

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from abo_vqa.annotate.verification.blind import AnswerMatcher
    from abo_vqa.annotate.verification.filtered import FilteredTable
    from abo_vqa.core.verify_config import VerifyConfig


def passing_reviewed(
    reviewed: pd.DataFrame,
    asked: pd.DataFrame,
    answers: Mapping[str, pd.DataFrame],
    matches: AnswerMatcher,
    filtered: FilteredTable,
    settings: VerifyConfig,
    seed: int,
) -> NDArray[np.bool_]:
    """[n] whether the filters would keep a reviewed pair as it was written, had nobody reviewed it.

    Args:
        reviewed: [n] columns image_path, question and answer.
        asked: see `asked_rows`.
        answers: verifier → columns prediction and error, of these rows.
        matches: when two answers mean the same.
        filtered: what the filters do to the table.
        settings: the filters.
        seed: of the cap's draw.
    """
    passes = np.ones(len(reviewed), np.bool_)
    if reviewed.empty or not settings.filters:
        return passes
    first = asked[QUESTION].reset_index(names="row").drop_duplicates(QUESTION)
    rows = reviewed[QUESTION].merge(first, on=QUESTION, how="left", validate="m:1")["row"]
    own = {name: given.iloc[rows].reset_index(drop=True) for name, given in answers.items()}
    by_verifier = agreements(reviewed, own, matches)
    if settings.min_agreement is not None:
        passes = agreeing(mean_agreement(by_verifier), settings.min_agreement)
    if settings.blind_share is not None:
        right = (by_verifier[BLIND_VERIFIER] == 1).to_numpy(dtype=np.bool_)
        passes = passes & (~right | _within_cap(reviewed, filtered, settings, seed))
    return passes


def _within_cap(
    reviewed: pd.DataFrame, filtered: FilteredTable, settings: VerifyConfig, seed: int
) -> NDArray[np.bool_]:
    """[n] whether a pair's random number is small enough for the cap on rows that nobody reviewed.

    See `passing_reviewed` for the arguments.
    """
    right = (filtered.by_verifier[BLIND_VERIFIER] == 1).to_numpy(dtype=np.bool_)
    capped = right & ~reviewed_rows(filtered.table)
    if settings.min_agreement is not None:
        capped = capped & agreeing(filtered.shares, settings.min_agreement)
    if filtered.kept[capped].all():
        return np.ones(len(reviewed), dtype=np.bool_)
    numbers = np.array(drawn_numbers(filtered.table, seed))
    limit = max(numbers[capped & filtered.kept], default="")
    return np.array([number <= limit for number in drawn_numbers(reviewed, seed)], dtype=np.bool_)


def review_counts(
    reviewed: pd.DataFrame, passes: NDArray[np.bool_], unreviewed: pd.DataFrame
) -> dict[str, Any]:
    """Count the wrong answers among the reviewed pairs that the filters keep.

    Those that were drawn at random tell how many of all pairs are wrong. The suspicious ones tell
    how many of these mistakes the rows that nobody reviewed no longer have.

    Args:
        reviewed: [n] columns image_path, wrong and drawn.
        passes: [n] whether the filters keep the pair as it was written.
        unreviewed: the rows of the filtered set that nobody has reviewed.

    Returns:
        For data/verification.json, all under `reviews`: `pairs` and `left_out` of those drawn at
        random, and `images`: how many images have so many such pairs with so many wrong answers;
        `skipped` if pairs are missing from the sample (see `_skipped`). If there are suspicious
        ones, too, `suspicious`: `pairs`, `left_out`, how many are `wrong`, and `unreviewed`. {}
        without reviews.
    """
    if reviewed.empty:
        return {}
    suspicious = (reviewed[DRAWN_COLUMN] == SUSPICIOUS).to_numpy(dtype=np.bool_)
    wrong = reviewed["wrong"].astype(float)
    by_image: dict[str, list[float]] = {}
    counted = passes & ~suspicious
    for image, value in zip(reviewed["image_path"][counted], wrong[counted], strict=True):
        by_image.setdefault(image, []).append(value)
    images = Counter((len(values), sum(values)) for values in by_image.values())
    counts: dict[str, Any] = {
        "pairs": int(counted.sum()),
        "left_out": int((~passes & ~suspicious).sum()),
        "images": [
            {"pairs": pairs, "wrong": value, "images": n}
            for (pairs, value), n in sorted(images.items())
        ],
    }
    if skipped := _skipped(reviewed[~suspicious], unreviewed):
        counts["skipped"] = skipped
    if suspicious.any():
        counts["suspicious"] = {
            "pairs": int((passes & suspicious).sum()),
            "left_out": int((~passes & suspicious).sum()),
            "wrong": float(wrong[passes & suspicious].sum()),
            "unreviewed": len(unreviewed),
        }
    return {"reviews": counts}


def _skipped(sample: pd.DataFrame, unreviewed: pd.DataFrame) -> int:
    """Count the pairs that are missing from a random sample, although its images were drawn.

    A page has all pairs of an image. Those without a decision were skipped, or the page was made
    by a former version, which left out what the filters of its time did: either way what is
    missing may be wrong more often than the rest. As many as people found wrong aren't counted: an
    annotator may have written others in place of rejected ones.

    Args:
        sample: columns image_path and wrong, of the pairs drawn at random.
        unreviewed: column image_path, of the rows that the filters keep and nobody has reviewed.
    """
    wrong = (sample["wrong"].astype(float) > 0).groupby(sample["image_path"]).sum()
    open_rows = unreviewed["image_path"].value_counts().reindex(wrong.index, fill_value=0)
    return int((open_rows - wrong).clip(lower=0).sum())
