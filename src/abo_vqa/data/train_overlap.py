"""What a test set of any origin shares with the rows that models were trained on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from abo_vqa.data.audit import PHASH_DISTANCE, audit_split, strictest_group
from abo_vqa.data.image_hashes import HASH_COLUMNS, fill_hashes, hash_images
from abo_vqa.data.image_paths import unify_image_paths

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from abo_vqa.data.question_table import QuestionTable


@dataclass(frozen=True)
class TrainOverlap:
    """What train and test share.

    Attributes:
        audit: of `audit.audit_split`.
        shared: [n of train] rows whose image the test rows ask about, by its path or its bytes.
        test_images: how many test images are in train, by path or bytes.
        near_duplicates: how many test images look like one in train; None if it isn't known.
    """

    audit: dict[str, Any]
    shared: NDArray[np.bool_]
    test_images: int
    near_duplicates: int | None

    def describe(self, train: Path) -> str:
        """Say what is shared, as a warning if anything is.

        Args:
            train: the training table's file.
        """
        images = self.audit["images"]["test"]
        like = self.near_duplicates
        if not self.test_images and not like:
            unknown = "" if like == 0 else " (by their paths; near-duplicates weren't looked for)"
            return f"none of the {images:,} images is in {train.name}{unknown}"
        parts = [f"{self.test_images:,} of {images:,} images are in {train.name} too"]
        if like:
            parts.append(f"{like:,} look like one there")
        return (
            f"leak: {' and '.join(parts)}; a model that was trained on it may remember their "
            "answers, so its accuracy here is too high"
        )


def compare_with_train(
    test: pd.DataFrame, train: pd.DataFrame, questions: QuestionTable
) -> TrainOverlap:
    """Find what a user's table shares with a training table.

    Near-duplicates are compared if the training table has the columns of their hashes; the test
    images are hashed here.

    Args:
        test: as `QuestionTable.test_rows` returns it.
        train: with image_path, question and answer.
        questions: the table, with its images.
    """
    hashed = [name for name in HASH_COLUMNS if name in train]
    if hashed:
        names = sorted(set(questions.rows["image_path"]))
        test = fill_hashes(test, hash_images(names, questions.images.read, by_name=False))
    kind = strictest_group(train.columns.intersection(test.columns))
    audit = audit_split(train, test, kind, PHASH_DISTANCE)
    of_train, of_test = unify_image_paths(train["image_path"], test["image_path"])
    in_train, in_test = np.isin(of_train, _known(of_test)), np.isin(of_test, _known(of_train))
    if "image_sha1" in hashed:
        in_train |= np.isin(train["image_sha1"], _known(test["image_sha1"]))
        in_test |= np.isin(test["image_sha1"], _known(train["image_sha1"]))
    images = len(set(np.array(of_test, dtype=object)[in_test]))
    near = audit.get("near_duplicates")
    return TrainOverlap(audit, in_train, images, None if near is None else near["test_images"])


def _known(values: Iterable[str]) -> list[str]:
    """The distinct values other than ""."""
    return sorted({*values} - {""})
