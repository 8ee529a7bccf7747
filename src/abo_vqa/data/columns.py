"""People's names for the columns that a command needs: found, or named with `--columns`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from abo_vqa.core.csvfile import SEPARATORS, Parsed, read_csv
from abo_vqa.core.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

# The usual names, the likeliest first: where a table has a path and an id, the path is the picture.
COLUMN_ALIASES = {
    "image_path": (
        "image_path", "full_image_path", "img_path", "path", "image", "image_name", "file_name",
        "filename", "image_file", "img", "image_url", "img_url", "image_id", "id",
    ),
    "question": ("question", "query"),
    "answer": (
        "answer", "ground_truth", "ground_truth_answer", "gt_answer", "true_answer", "reference",
        "label", "gt", "correct_answer", "target",
    ),
    "prediction": (
        "prediction", "predicted_answer", "generated_answer", "pred_answer", "pred", "output",
        "predicted", "model_answer", "response",
    ),
    "confidence": ("confidence",),
    "error": ("error",),
}  # fmt: skip
# Several names of these may stand side by side: they name one picture in different ways.
_ORDERED = ("image_path",)
_SHOWN = 3  # lines named in a message
_FEWEST = 3  # rows from which 1, 2, 3 … is no coincidence
_UNUSED = "{} (unused)"  # a column whose name another one has been given


@dataclass(frozen=True)
class Columns:
    """A table whose columns go by their usual names.

    Attributes:
        path: the file. frame: the columns that were found are renamed, the others are as they were.
        taken: the usual name → the name in the file.
        lines: [n] the line of the file each row starts on.
        separator: what separates the file's fields.
    """

    path: Path
    frame: pd.DataFrame
    taken: Mapping[str, str]
    lines: NDArray[np.int64]
    separator: str = ","

    @property
    def renames(self) -> bool:
        """Whether a column has another name in the file."""
        return any(role != name for role, name in self.taken.items())

    @property
    def names(self) -> dict[str, str]:
        """The frame's name of a column → the file's, where they differ."""
        back = {role: name for role, name in self.taken.items() if role != name}
        return back | {_UNUSED.format(role): role for role in self.taken}

    def blanks(self) -> list[str]:
        """Warnings about rows without a question or an answer, with their lines."""
        said = []
        for role in ("question", "answer"):
            blank = self.frame[role].str.strip() == "" if role in self.taken else None
            if blank is not None and blank.any():
                lines = ", ".join(map(str, self.lines[blank][:_SHOWN]))
                more = ", …" if blank.sum() > _SHOWN else ""
                said.append(
                    f"warning: {int(blank.sum()):,} row(s) of {self.path} have no {role} "
                    f"(line {lines}{more}): they stay, and no prediction can be right there"
                )
        return said

    def describe(self) -> str:
        """What was taken for what, for the terminal."""
        found = [
            role if role == name else f"{role} ← {name!r}" for role, name in self.taken.items()
        ]
        by = "" if self.separator == "," else f" (separated by {SEPARATORS[self.separator]}s)"
        return f"{self.path}: columns {', '.join(found)}{by}"


def read_columns(
    path: str | Path,
    required: Sequence[str] = ("image_path", "question"),
    optional: Sequence[str] = (),
    chosen: Mapping[str, str] | None = None,
) -> Columns:
    """Read a CSV and find the columns in any case, with stray blanks, under any usual name.

    Args:
        required, optional: keys of `COLUMN_ALIASES`.
        chosen: usual name → the file's name for it, or "" for a column that isn't to be used
            (`--columns`).
    Raises:
        UserError: the file isn't a proper CSV, a required column is missing, or several could be
            meant and differ.
    """
    path, chosen, parsed = Path(path), chosen or {}, read_csv(path)
    roles = [*required, *optional]
    if strange := [role for role in chosen if role not in roles]:
        raise UserError(
            f"--columns {strange[0]}=…: not a column this command reads. "
            f"It reads {', '.join(roles)}."
        )
    taken: dict[str, str] = {}
    missing = []
    for role in roles:
        name = _named(path, parsed, role, chosen[role]) if role in chosen else _find_column(
            path, parsed, role, set(taken.values())
        )  # fmt: skip
        if name:
            taken[role] = name
        elif role in required:
            missing.append(role)
    if missing:
        raise UserError(_lacking(path, parsed, missing))
    return Columns(path, _rename(parsed.frame, taken), taken, parsed.lines, parsed.separator)


def canonical_name(name: str) -> str:
    """A header cell without case, blanks and the marks that stand for blanks."""
    return "_".join(name.strip().strip("\"'").lower().replace("-", " ").replace("_", " ").split())


def _named(path: Path, parsed: Parsed, role: str, name: str) -> str:
    """The column that the user named, "" if none is wanted.

    Raises:
        UserError: there is none, or there are several.
    """
    if not name:
        return ""
    columns = [str(column) for column in parsed.frame]
    fits = [c for c in columns if c == name] or [
        c for c in columns if canonical_name(c) == canonical_name(name)
    ]
    if not fits:
        raise UserError(f"--columns {role}={name}: {path} has no such column. {_listed(parsed)}")
    if len(fits) > 1 or fits[0] in parsed.doubled:
        raise UserError(f"--columns {role}={name}: {path} has several of that name; rename one.")
    return fits[0]


def _find_column(path: Path, parsed: Parsed, role: str, used: set[str]) -> str:
    """The column under one of its usual names, "" if there is none.

    Raises:
        UserError: several could be meant, and they don't hold the same.
    """
    frame = parsed.frame
    # The second of two columns called "answer" is "answer.1" here.
    second = {f"{name}.{i}": name for name in parsed.doubled for i in range(1, frame.shape[1])}
    by_name: dict[str, list[str]] = {}
    for column in map(str, frame):
        by_name.setdefault(canonical_name(second.get(column, column)), []).append(column)
    usual = [name for name in COLUMN_ALIASES[role] if name in by_name]
    if role in _ORDERED:
        usual = [n for n in usual if not any(_running(frame[c]) for c in by_name[n])][:1]
    fits = [column for name in usual for column in by_name[name] if column not in used]
    if any(not frame[column].equals(frame[fits[0]]) for column in fits[1:]):
        called = [second.get(column, column) for column in fits]
        names = ", ".join(map(repr, called))
        remedy = f"Say which with --columns {role}=NAME" if len(set(called)) > 1 else "Rename one"
        raise UserError(
            f"{path}: several columns could be the {role.replace('_', ' ')}, and they differ: "
            f"{names}. {remedy}, or remove the others."
        )
    return fits[0] if fits else ""


def _running(column: pd.Series) -> bool:
    """Whether a column numbers the rows: as pictures' names, each row would be another picture."""
    if len(column) < _FEWEST or not column.str.fullmatch(r"\s*[0-9]{1,15}\s*").all():
        return False
    numbers = column.astype("int64")
    return bool(numbers.is_unique and numbers.max() - numbers.min() == len(numbers) - 1)


def _lacking(path: Path, parsed: Parsed, missing: Sequence[str]) -> str:
    """The message about required columns that aren't there."""
    wanted = "; ".join(f"{role} or {', '.join(COLUMN_ALIASES[role][1:])}" for role in missing)
    example = ",".join(f"{role}=NAME" for role in missing)
    numbers = [
        repr(str(name)) for name in parsed.frame
        if set(missing) & set(_ORDERED) and canonical_name(str(name)) in COLUMN_ALIASES["image_path"]
    ]  # fmt: skip
    only = f" {', '.join(numbers)} only numbers the rows." if numbers else ""
    return (
        f"{path} lacks the column {wanted}. {_listed(parsed)}{only} "
        f"Name it with --columns {example}."
    )


def _listed(parsed: Parsed) -> str:
    """What a table has, each name so that stray blanks show."""
    by = SEPARATORS[parsed.separator]
    names = ", ".join(repr(name) for name in parsed.header)
    marks = ", ".join(f"{mark}s" for mark in SEPARATORS.values())
    return f"It has {names}" + (
        f", separated by {by}s." if len(parsed.header) > 1 else f", one column: {marks} separate."
    )


def _rename(frame: pd.DataFrame, taken: Mapping[str, str]) -> pd.DataFrame:
    """The table under the usual names; a column whose name is taken from it gets a longer one."""
    names = {column: role for role, column in taken.items()}
    in_the_way = {
        role: _UNUSED.format(role) for role in taken if role in frame and role not in names
    }
    return frame.rename(columns=names | in_the_way)


def add_columns_option(parser: argparse.ArgumentParser) -> None:
    """Add `--columns image_path=img,answer=gt`; `args.columns` is a dict."""
    parser.add_argument(
        "--columns",
        type=parse_columns_option,
        default={},
        metavar="NAME=COLUMN,…",
        help="the table's own names, e.g. image_path=img,answer=gt; NAME= leaves a column unused "
        "(default: the usual names, in any case)",
    )


def parse_columns_option(text: str) -> dict[str, str]:
    """Parse "image_path=img,answer=gt".

    Raises:
        argparse.ArgumentTypeError: a part isn't NAME=COLUMN, or a name comes twice.
    """
    chosen: dict[str, str] = {}
    for part in text.split(","):
        role, equals, column = part.partition("=")
        if not equals or role.strip() in chosen or not role.strip():
            raise argparse.ArgumentTypeError(
                f"{text!r}: write NAME=COLUMN, each name once, e.g. image_path=img,answer=gt"
            )
        chosen[role.strip()] = column.strip()
    return chosen
