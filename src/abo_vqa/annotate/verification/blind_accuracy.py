"""How many answers of a set can be given without the image: what each filter does to that."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
"""Of larger sets, only a part is answered, by one fit: five take minutes."""
SAMPLED_SHARE = 0.2
"""Of the images of larger sets, so that the fit has as many others as each of five would have."""
UNMEASURED: Mapping[str, Any] = {"blind_accuracy": None, "blind_interval": None}
"""What is known of a set that wasn't, or couldn't be, measured."""

ShareInterval = Callable[["NDArray[np.float64]", "NDArray[np.int64]"], tuple[float, float]]
"""Takes [n] values of 0 or 1 and [n] the numbers of their images; returns their mean's interval."""


@dataclass(frozen=True)
class BlindMeasure:
    """Measures how many answers of each of several sets the blind predictor gives.

    It is fitted on the set in question alone. All sets are measured on the same basis, so that they
    can be compared: on all rows by cross-fitting, or, if any has more than `ALL_ROWS`, on the rows
    about a fixed sample of the images by one fit on the others.

    Attributes:
        config: the seed, and how far look-alikes may differ.
        matches: when two answers mean the same.
        interval: of a share.
        sampled: the images of the sample; None for all rows.
    """

    config: Config
    matches: AnswerMatcher
    interval: ShareInterval
    sampled: frozenset[str] | None

    @classmethod
    def of(
        cls,
        config: Config,
        matches: AnswerMatcher,
        interval: ShareInterval,
        sets: Mapping[str, pd.DataFrame],
    ) -> BlindMeasure:
        """Choose the basis for some sets.

        Args:
            config: the seed, and how far look-alikes may differ.
            matches: when two answers mean the same.
            interval: of a share.
            sets: what is to be measured.
        """
        sampled = None
        if any(len(rows) > ALL_ROWS for rows in sets.values()):
            every = pd.concat(sets.values(), ignore_index=True)
            of_image = every.drop(columns=["question", "answer"]).drop_duplicates()
            sampled = _sampled_images(config, of_image.reset_index(drop=True))
        return cls(config, matches, interval, sampled)

    def measure(self, table: pd.DataFrame) -> Mapping[str, Any]:
        """Measure a set.

        Args:
            table: one of the sets.

        Returns:
            `blind_accuracy` and `blind_interval`, its bounds; both None if the set is too small to
            be divided.
        """
        if table.empty:
            return UNMEASURED
        rows = table.reset_index(drop=True)
        predictions = self._answers(rows)
        if predictions is None:
            return UNMEASURED
        answered = rows.iloc[predictions["row_id"]]
        given = zip(predictions["prediction"], answered["answer"], strict=True)
        return self.described([self.matches(*pair) for pair in given], answered["image_path"])

    def described(self, right: Any, images: pd.Series) -> Mapping[str, Any]:
        """Describe answers that are known: see `measure`.

        Args:
            right: [n] 1 or 0.
            images: [n] each answer's image.
        """
        values = np.asarray(right, dtype=np.float64)
        clusters = pd.factorize(images)[0].astype(np.int64)
        bounds = self.interval(values, clusters)
        return {
            "blind_accuracy": round(float(values.mean()), 4),
            "blind_interval": [round(float(bound), 4) for bound in bounds],
        }

    def _answers(self, rows: pd.DataFrame) -> pd.DataFrame | None:
        """The predictor's answers to those of the rows that are measured; None if none can be."""
        pairs = number_rows(rows)
        if self.sampled is not None:
            asked = rows["image_path"].isin(self.sampled)
            if not asked.any() or not pairs["answer"][~asked].map(normalise).any():
                return None
            answers = answer_blind_rows(pairs[asked], pairs[~asked], (BLIND_VARIANT,))
        else:
            groups = verification_groups(self.config, rows)
            try:
                answers = cross_fit_blind(pairs, groups, self.config.seed, (BLIND_VARIANT,))
            except TooFewGroupsError:  # all rows belong together
                return None
        return answers[BLIND_VARIANT].predictions


def _sampled_images(config: Config, table: pd.DataFrame) -> frozenset[str]:
    """The images of the sample, and what belongs to them.

    Which ones doesn't depend on the order of the rows.

    Args:
        config: the seed, and how far look-alikes may differ.
        table: all images of all sets, with what is known of them.
    """
    images = table["image_path"]
    drawn = {
        image
        for image in images.unique()
        if int(hashlib.sha256(f"{config.seed}\0{image}".encode()).hexdigest()[:8], 16)
        < SAMPLED_SHARE * 16**8
    }
    # A group of look-alikes is drawn if its first image is, so it is never on both sides.
    first = images.groupby(verification_groups(config, table)).transform("min")
    return frozenset(images[first.isin(drawn)])
