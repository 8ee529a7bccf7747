"""How many answers of a set can be given without the image: what each filter does to that."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from abo_vqa.annotate.verification.blind import BLIND_VARIANT, number_rows, verification_groups
from abo_vqa.data.normalise import normalise
from abo_vqa.models.answering.blind import TooFewGroupsError, answer_blind_rows, cross_fit_blind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from abo_vqa.annotate.verification.blind import AnswerMatcher
    from abo_vqa.core.config import Config

ALL_ROWS = 10_000
"""Of a larger set, only a part is answered, by one fit: five take minutes."""
SAMPLED_SHARE = 0.2
"""Of the images of a larger set, so that the fit has as many others as each of five would have."""


def blind_accuracy(config: Config, matches: AnswerMatcher, table: pd.DataFrame) -> float | None:
    """Measure how many of some rows' answers the blind predictor gives, fitted on these rows alone.

    Of more than `ALL_ROWS` rows, those of a fixed sample of the images are answered.

    Args:
        config: the seed, and how far look-alikes may differ.
        matches: when two answers mean the same.
        table: the rows.

    Returns:
        The share, None for rows that are too few to be divided.
    """
    if table.empty:
        return None
    rows = table.reset_index(drop=True)
    groups = verification_groups(config, rows)
    pairs = number_rows(rows)
    if len(rows) > ALL_ROWS:
        sampled = _sampled(rows, groups, config.seed)
        if not sampled.any() or not pairs["answer"][~sampled].map(normalise).any():
            return None
        answers = answer_blind_rows(pairs[sampled], pairs[~sampled], (BLIND_VARIANT,))
    else:
        try:
            answers = cross_fit_blind(pairs, groups, config.seed, (BLIND_VARIANT,))
        except TooFewGroupsError:  # all rows belong together
            return None
    predictions = answers[BLIND_VARIANT].predictions
    expected = rows["answer"].iloc[predictions["row_id"]]
    given = zip(predictions["prediction"], expected, strict=True)
    return round(sum(matches(*pair) for pair in given) / len(predictions), 4)


def _sampled(rows: pd.DataFrame, groups: NDArray[np.int64], seed: int) -> NDArray[np.bool_]:
    """[n] the rows of the sample: the same images in every set, and what belongs to them."""
    images = rows["image_path"].unique()
    drawn = {
        image
        for image in images
        if int(hashlib.sha256(f"{seed}\0{image}".encode()).hexdigest()[:8], 16)
        < SAMPLED_SHARE * 16**8
    }
    # A group of look-alikes is drawn if its first image is, so it is never on both sides.
    first = pd.Series(rows["image_path"].to_numpy()).groupby(groups).transform("min")
    return first.isin(drawn).to_numpy(dtype=np.bool_)
