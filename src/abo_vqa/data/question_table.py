"""Users' tables of questions about a folder of images, and the same tables with answers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from abo_vqa.core.errors import UserError
from abo_vqa.data.columns import COLUMN_ALIASES, canonical_name, read_columns
from abo_vqa.data.image_collection import MISSING, ImageFolder, open_images
from abo_vqa.data.image_files import ImageError

if TYPE_CHECKING:
    from PIL.Image import Image

    from abo_vqa.data.columns import Columns

_ANSWERS = "generated_answer"
# What an earlier run may have written, by any name that `score` knows: it doesn't belong to the new
# answers.
_STALE = {*COLUMN_ALIASES["prediction"], *COLUMN_ALIASES["confidence"], *COLUMN_ALIASES["error"]}
_PROVENANCE = ("product_type", "item_id")


@dataclass(frozen=True)
class QuestionTable:
    """Rows of questions, matched with their images.

    Attributes:
        columns: the table as read.
        images: where its images are.
        rows: row_id, image_path (as `images` knows it) and question of the rows whose image was
            found.
        errors: row_id → why there is no image, for the other rows.
    """

    columns: Columns
    images: ImageFolder
    rows: pd.DataFrame
    errors: Mapping[int, str]

    @classmethod
    def read(
        cls,
        path: Path,
        place: Path,
        chosen: Mapping[str, str],
        required: Sequence[str] = ("image_path", "question"),
    ) -> QuestionTable:
        """Read a CSV and find its images.

        Args:
            path: the CSV.
            place: the folder or the tar of the images.
            chosen: see `columns.read_columns`.
            required: the columns that the table must have, image_path and question among them.

        Raises:
            UserError: there is no folder, no proper table, no row, or no image was found.
        """
        images = open_images(place)
        columns = read_columns(path, required, chosen=dict(chosen))
        table = columns.frame
        if table.empty:
            raise UserError(f"{path} has a header and no rows.")
        place_of = {name: images.find(name) for name in table["image_path"].unique()}
        paths = [place_of[name] for name in table["image_path"]]
        errors = {at: why for at, (_, why) in enumerate(paths) if why}
        if len(errors) == len(table):
            reasons = _count_reasons(list(errors.values()), table["image_path"].tolist())
            there = ", ".join(images.paths[:2]) or "nothing"
            kind = "folder" if place.is_dir() else "archive"
            raise UserError(
                f"none of the {len(place_of):,} images of {path} is in {place}: {reasons}. "
                f"The {kind} holds {there}{' …' if len(images.paths) > 2 else ''}. Is it the right "
                f"{kind}, and the right column (--columns image_path=NAME)?"
            )
        rows = pd.DataFrame(
            {
                "row_id": range(len(table)),
                "image_path": [inside for inside, _ in paths],
                "question": table["question"],
            }
        )
        good = ~rows["row_id"].isin(list(errors))
        return cls(columns, images, rows[good].reset_index(drop=True), errors)

    def test_rows(self) -> pd.DataFrame:
        """Return all rows as an evaluation takes them.

        Returns:
            row_id, image_path (as the table has it where the image wasn't found), question, answer
            and, if the table has them, product_type and item_id.
        """
        table = self.columns.frame
        names = [n for n in ("question", "answer", *_PROVENANCE) if n in table]
        rows = table[names].reset_index(drop=True)
        paths = dict(zip(self.rows["row_id"], self.rows["image_path"], strict=True))
        own = table["image_path"].tolist()
        rows.insert(0, "row_id", range(len(rows)))
        rows.insert(1, "image_path", [paths.get(at, own[at]) for at in range(len(rows))])
        return rows

    def image(self, path: str) -> Image:
        """Open one of the images that were found, as RGB; called from any thread.

        Args:
            path: as in `rows`.

        Raises:
            ImageError: it is unreadable, or isn't one of them.
        """
        if path not in self._paths:
            raise ImageError(path, MISSING)
        return self.images.image(path)

    @cached_property
    def _paths(self) -> frozenset[str]:
        return frozenset(self.rows["image_path"])

    def missing_images(self) -> str:
        """Say which rows' images weren't found, with an example of each reason; "" if all were."""
        reasons = [self.errors.get(at, "") for at in range(len(self.columns.frame))]
        names = self.columns.frame["image_path"].tolist()
        if not self.errors:
            return ""
        return f"{len(self.errors):,} of {len(reasons):,} rows have no image: " + _count_reasons(
            reasons, names
        )

    @cached_property
    def stale(self) -> list[str]:
        """The columns of an earlier run, which the new answers replace."""
        used = {"image_path", "question"}  # --columns may have named a stale-looking column
        names = [str(name) for name in self.columns.frame]
        # The second of two columns called "error" is "error.1" here.
        return [
            n for n in names if n not in used and canonical_name(re.sub(r"\.\d+$", "", n)) in _STALE
        ]

    def answered(self, answers: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
        """Return the user's table with the column `generated_answer`, and `error` if a row failed.

        Args:
            answers: row_id, prediction and error of `rows`.

        Returns:
            the table, and each row's error ("" where there is an answer).
        """
        predictions = dict(zip(answers["row_id"], answers["prediction"], strict=True))
        errors = dict(zip(answers["row_id"], answers["error"], strict=True)) | dict(self.errors)
        count = range(len(self.columns.frame))
        table = self.columns.frame.drop(columns=self.stale).rename(columns=self.columns.names)
        table[_ANSWERS] = np.array([predictions.get(at, "") for at in count], dtype=object)
        reasons = [errors.get(at, "") for at in count]
        if any(reasons):
            table["error"] = np.array(reasons, dtype=object)
        return table, reasons

    def failures(self, reasons: Sequence[str]) -> str:
        """Say how many rows failed and why, with an example of each; "" if none did.

        Args:
            reasons: each row's error, "" where there is an answer.
        """
        failed = sum(map(bool, reasons))
        names = self.columns.frame["image_path"].tolist()
        why = _count_reasons(reasons, names)
        return f"{failed:,} of {len(reasons):,} rows have no answer: {why}" if failed else ""


def _count_reasons(reasons: Sequence[str], names: Sequence[str]) -> str:
    """Reasons, the most frequent first, each with the first image it applies to."""
    groups: dict[str, list[int]] = {}
    for at, reason in enumerate(reasons):
        if reason:
            groups.setdefault(reason.partition(":")[0], []).append(at)
    ordered = sorted(groups.items(), key=lambda group: -len(group[1]))
    parts = []
    for reason, rows in ordered:
        whole = reasons[rows[0]] if len(rows) == 1 else reason
        parts.append(f"{len(rows):,} × {whole} (e.g. {names[rows[0]]!r})")
    return "; ".join(parts)
