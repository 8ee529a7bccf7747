"""Users' tables of questions about a folder of images, and the same tables with answers."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from abo_vqa.core.errors import UserError
from abo_vqa.data.columns import COLUMN_ALIASES, canonical_name, read_columns
from abo_vqa.data.image_paths import ImageIndex, format_examples

if TYPE_CHECKING:
    from abo_vqa.data.columns import Columns

_ANSWERS = "generated_answer"
_MISSING = "No such file or directory"
# What an earlier run may have written, by any name that `score` knows: it doesn't belong to the new
# answers.
_STALE = {*COLUMN_ALIASES["prediction"], *COLUMN_ALIASES["confidence"], *COLUMN_ALIASES["error"]}
_EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")


class ImageFolder:
    """A folder of images; no name in a table reaches files outside it.

    Args:
        root: the folder.

    Raises:
        UserError: there is no such folder.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise UserError(f"no folder {root}; --images names the folder that the images are in.")
        self.root = root

    @cached_property
    def paths(self) -> list[str]:
        """All files below the folder, relative to it and with slashes, sorted."""
        paths = []
        for place, _, names in os.walk(self.root):
            below = Path(place).relative_to(self.root)
            paths += [(below / name).as_posix() for name in names]
        return sorted(paths)

    @cached_property
    def index(self) -> ImageIndex:
        """The files by any form of their paths."""
        return ImageIndex(self.paths)

    def find(self, text: str) -> tuple[str, str]:
        """Find the file that a name in a table stands for.

        The name itself is tried first, then the forms of a path that `ImageIndex` knows.

        Args:
            text: the name.

        Returns:
            the file relative to the folder and "", or "" and why there is none.
        """
        name = text.strip().replace("\\", "/")
        if not name:
            return "", "no image is named"
        inside, absolute = self._relative(posixpath.normpath(name))
        if ".." in PurePosixPath(inside).parts:
            return "", f"the path points outside {self.root}"
        if not absolute and _is_file(self.root / inside):
            return inside, ""
        paths = self.index.candidates(inside if ".." in PurePosixPath(name).parts else text)
        # Captions and the like often lie beside an image, under its name.
        paths = [p for p in paths if p.lower().endswith(_EXTENSIONS)] or paths
        if len(paths) > 1:
            return "", f"several files could be meant: {format_examples(paths)}"
        if paths:
            return paths[0], ""
        return "", f"outside {self.root}" if absolute else _MISSING

    def _relative(self, name: str) -> tuple[str, bool]:
        """Make a name relative to the folder if it lies there.

        Returns:
            the name, and whether it is still absolute.
        """
        absolute = PurePosixPath(name).is_absolute()
        if not absolute and not name.startswith("../"):
            return name, False
        for root in (self.root.absolute(), self.root.resolve()):
            whole = Path(posixpath.normpath((root / name).as_posix()))
            if whole.is_relative_to(root):
                return whole.relative_to(root).as_posix(), False
        return name, absolute


def _is_file(path: Path) -> bool:
    """Whether there is such a file; False for a name that the system doesn't allow."""
    try:
        return path.is_file()
    except OSError:
        return False


@dataclass(frozen=True)
class QuestionTable:
    """Rows of questions, matched with their images.

    Attributes:
        columns: the table as read.
        rows: row_id, image_path (the file) and question of the rows whose image was found.
        errors: row_id → why there is no image, for the other rows.
    """

    columns: Columns
    rows: pd.DataFrame
    errors: Mapping[int, str]

    @classmethod
    def read(cls, path: Path, images: Path, chosen: Mapping[str, str]) -> QuestionTable:
        """Read a CSV and find its images.

        Args:
            path: the CSV.
            images: the folder of the images.
            chosen: see `columns.read_columns`.

        Raises:
            UserError: there is no folder, no proper table, no row, or no image was found.
        """
        folder = ImageFolder(images)
        columns = read_columns(path, ("image_path", "question"), chosen=dict(chosen))
        table = columns.frame
        if table.empty:
            raise UserError(f"{path} has a header and no rows.")
        place = {name: folder.find(name) for name in table["image_path"].unique()}
        paths = [place[name] for name in table["image_path"]]
        errors = {at: why for at, (_, why) in enumerate(paths) if why}
        if len(errors) == len(table):
            reasons = _count_reasons(list(errors.values()), table["image_path"].tolist())
            there = ", ".join(folder.paths[:2]) or "nothing"
            raise UserError(
                f"none of the {len(place):,} images of {path} is in {images}: {reasons}. "
                f"The folder holds {there}{' …' if len(folder.paths) > 2 else ''}. Is it the right "
                "folder, and the right column (--columns image_path=NAME)?"
            )
        rows = pd.DataFrame(
            {
                "row_id": range(len(table)),
                "image_path": [str(images / inside) for inside, _ in paths],
                "question": table["question"],
            }
        )
        good = ~rows["row_id"].isin(list(errors))
        return cls(columns, rows[good].reset_index(drop=True), errors)

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
