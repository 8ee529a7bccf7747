"""The rows that models were trained on, beside a test set of any origin: what the two share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from abo_vqa.core.errors import UserError
from abo_vqa.data.audit import audit_split
from abo_vqa.data.columns import read_columns
from abo_vqa.data.groups import strictest_group
from abo_vqa.data.image_hashes import HASH_COLUMNS, fill_hashes, hash_images
from abo_vqa.data.image_paths import unify_image_paths
from abo_vqa.data.normalise import normalise
from abo_vqa.data.provenance import complete_table
from abo_vqa.data.similarity_rule import PHASH_DISTANCE, SimilarityRule

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from abo_vqa.data.question_table import QuestionTable

CROSS_FIT = (
    "blind baselines: fitted on this table itself, in five parts by image; each part is answered "
    "by a fit on the others"
)
"""What is said of blind baselines without training rows."""


@dataclass(frozen=True)
class TrainRows:
    """A training table, and what it shares with a test set.

    Attributes:
        path: its file.
        table: question and answer, and image_path where the file has it.
        overlap: None if the file names no images.
    """

    path: Path
    table: pd.DataFrame
    overlap: TrainOverlap | None

    @classmethod
    def read(cls, path: Path, questions: QuestionTable) -> TrainRows:
        """Read a training table and compare it with a test set.

        Args:
            path: a CSV with usual column names.
            questions: the test set.

        Raises:
            UserError: it is no proper table, or has no answer.
        """
        columns = read_columns(path, ("question", "answer"), ("image_path",))
        table, overlap = columns.frame, None
        if not table["answer"].map(normalise).any():
            raise UserError(f"{path} has no answer to learn from: choose another --train.")
        if "image_path" in columns.source_names:
            table, _ = complete_table(columns, None, None)
            overlap = compare_with_train(questions, table)
        return cls(path, table, overlap)

    @property
    def usable(self) -> pd.DataFrame | None:
        """The rows about other images than the test set's; None if there is no answer among them.

        A baseline that is fitted on the rows that it answers would know their answers.
        """
        table = self.table if self.overlap is None else self.table[~self.overlap.shared]
        return table if table["answer"].map(normalise).any() else None

    def describe_overlap(self) -> str:
        """Say what is shared with the test set."""
        if self.overlap is None:
            return f"{self.path.name} names no images: nobody knows whether this table's are there"
        return self.overlap.describe(self.path)

    def describe_fit(self) -> str:
        """Say what blind baselines are fitted on."""
        usable = self.usable
        if usable is None:
            return f"{CROSS_FIT}, since all rows of {self.path.name} are about images of this table"
        shared = len(self.table) - len(usable)
        without = f", without the {shared:,} about images of this table" if shared else ""
        return f"blind baselines: fitted on {len(usable):,} rows of {self.path.name}{without}"


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
        """Say what is shared.

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

    @property
    def is_leak(self) -> bool:
        """Whether images are shared, or look like training images."""
        return bool(self.test_images or self.near_duplicates)


def compare_with_train(questions: QuestionTable, train: pd.DataFrame) -> TrainOverlap:
    """Find what a user's table shares with a training table.

    Near-duplicates are compared if the training table has the columns of their hashes; the test
    images are hashed here.

    Args:
        questions: the user's table, with answers, and its images.
        train: with image_path, question and answer.
    """
    test = questions.test_rows()
    hashed = [name for name in HASH_COLUMNS if name in train]
    if hashed:
        names = sorted(set(questions.rows["image_path"]))
        test = fill_hashes(test, hash_images(names, questions.images.read, by_name=False))
    kind = strictest_group(train.columns.intersection(test.columns))
    audit = audit_split(train, test, kind, SimilarityRule(PHASH_DISTANCE))
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
