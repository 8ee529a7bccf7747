"""The columns a command needs, found in users' tables under their usual names or `--columns`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from abo_vqa.core.csvfile import SEPARATORS, ParsedCsv, read_csv
from abo_vqa.core.errors import UserError
from abo_vqa.core.record_files import is_record_file, read_records

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

COLUMN_ALIASES = {
    "image_path": (
        "image_path", "full_image_path", "img_path", "path", "image", "image_name", "file_name",
        "filename", "image_file", "img", "images", "image_url", "img_url", "image_id", "id",
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
    "decision": ("decision",),
}  # fmt: skip
"""A role → the usual names of its column, the likeliest first: a path is preferred to an id."""

# Several columns may fit these roles: they name the same image in different ways.
_ORDERED = ("image_path",)
_MAX_LINES = 5  # lines named in a message
_MIN_RUNNING = 3  # rows from which 1, 2, 3 … is no coincidence
_UNUSED = "{} (unused)"  # the new name of a column whose name is given to another


@dataclass(frozen=True)
class Columns:
    """A table whose columns are named by their roles.

    Attributes:
        path: the file.
        frame: the table; columns without a role keep their names.
        source_names: a role → the column's name in the file.
        lines: [n] the line of the file each row starts on, or the number of its record.
        separator: what separates the file's fields; "" for records.
        left_out: what of the file isn't in the table, and why; "" if everything is.
    """

    path: Path
    frame: pd.DataFrame
    source_names: Mapping[str, str]
    lines: NDArray[np.int64]
    separator: str = ","
    left_out: str = ""

    @property
    def renames(self) -> bool:
        """Whether a column's name in the file isn't its role."""
        return any(role != name for role, name in self.source_names.items())

    @property
    def names(self) -> dict[str, str]:
        """A column's name in the frame → in the file, where they differ."""
        back = {role: name for role, name in self.source_names.items() if role != name}
        return back | {_UNUSED.format(role): role for role in self.source_names}

    @property
    def unit(self) -> str:
        """What `lines` counts in the file: "line" or "record"."""
        return "line" if self.separator else "record"

    def blank_warnings(self) -> list[str]:
        """Warn of rows without a question or an answer, with their lines."""
        warnings = []
        for role in ("question", "answer"):
            blank = self.frame[role].str.strip() == "" if role in self.source_names else None
            if blank is not None and blank.any():
                warnings.append(
                    f"warning: {int(blank.sum()):,} row(s) of {self.path} have no {role} "
                    f"({self.places(blank.to_numpy())}): they are kept, but no prediction can be "
                    "right there"
                )
        return warnings

    def describe(self) -> str:
        """Say which columns were recognised, in a line for the terminal."""
        renamed = [
            role if role == name else f"{role} ← {name!r}"
            for role, name in self.source_names.items()
        ]
        by = (
            f" (separated by {SEPARATORS[self.separator]}s)"
            if self.separator in {";", "\t"}
            else ""
        )
        left_out = f"; {self.left_out}" if self.left_out else ""
        return f"{self.path}: columns {', '.join(renamed)}{by}{left_out}"

    def places(self, rows: NDArray[np.bool_] | Sequence[bool]) -> str:
        """Name where rows are in the file: "line 3", or "records 3, 4, 9, 11, 12 and 7 more".

        Args:
            rows: [n] those that are meant.
        """
        lines = list(dict.fromkeys(self.lines[rows].tolist()))  # a record may have several rows
        named = ", ".join(str(line) for line in lines[:_MAX_LINES])
        more = f" and {len(lines) - _MAX_LINES:,} more" if len(lines) > _MAX_LINES else ""
        return f"{self.unit}{'s' if len(lines) > 1 else ''} {named}{more}"


def read_columns(
    path: str | Path,
    required: Sequence[str] = ("image_path", "question"),
    optional: Sequence[str] = (),
    chosen: Mapping[str, str] | None = None,
) -> Columns:
    """Read a table and find its columns by their usual names, in any case and with stray blanks.

    Args:
        path: the file: CSV, JSON, JSON Lines or Parquet; or a folder of Parquet, or of VQAv2's two
            files.
        required: roles (keys of `COLUMN_ALIASES`) that the table must have.
        optional: roles that it may have.
        chosen: a role → the column's name in the file, or "" for a column that isn't to be used
            (`--columns`). None where the command has no such option.

    Raises:
        UserError: the file isn't a proper table, a required column is missing, or several columns
            fit a role and differ.
    """
    path, has_option = Path(path), chosen is not None
    parsed = read_records(path) if is_record_file(path) else read_csv(path)
    chosen = chosen or {}
    roles = [*required, *optional]
    if strange := [role for role in chosen if role not in roles]:
        raise UserError(
            f"--columns {strange[0]}=…: not a column this command reads. "
            f"It reads {', '.join(roles)}."
        )
    source_names: dict[str, str] = {}
    missing = []
    for role in roles:
        if role in chosen:
            name = _chosen_column(path, parsed, role, chosen[role])
        else:
            name = _find_column(path, parsed, role, set(source_names.values()), has_option)
        if name:
            source_names[role] = name
        elif role in required:
            missing.append(role)
    if missing:
        raise UserError(_missing_message(path, parsed, missing, has_option))
    return Columns(
        path,
        _rename(parsed.frame, source_names),
        source_names,
        parsed.lines,
        parsed.separator,
        parsed.left_out,
    )


def canonical_name(name: str) -> str:
    """Return a header cell in lower case, with one underscore for any blanks and dashes."""
    return "_".join(name.strip().strip("\"'").lower().replace("-", " ").replace("_", " ").split())


def _chosen_column(path: Path, parsed: ParsedCsv, role: str, name: str) -> str:
    """The column that the user chose for a role; "" for none.

    Raises:
        UserError: there is no such column, or there are several.
    """
    if not name:
        return ""
    columns = [str(column) for column in parsed.frame]
    fits = [c for c in columns if c == name] or [
        c for c in columns if canonical_name(c) == canonical_name(name)
    ]
    if not fits:
        raise UserError(f"--columns {role}={name}: {path} has no such column. {_listed(parsed)}")
    if len(fits) > 1 or fits[0] in parsed.duplicate_names:
        raise UserError(f"--columns {role}={name}: {path} has several of that name; rename one.")
    return fits[0]


def _find_column(path: Path, parsed: ParsedCsv, role: str, used: set[str], has_option: bool) -> str:
    """The column that has one of a role's usual names; "" if there is none.

    Raises:
        UserError: several columns fit, and they differ.
    """
    frame = parsed.frame
    # The second of two columns called "answer" is "answer.1" here.
    original = {
        f"{name}.{i}": name for name in parsed.duplicate_names for i in range(1, frame.shape[1])
    }
    by_name: dict[str, list[str]] = {}
    for column in map(str, frame):
        by_name.setdefault(canonical_name(original.get(column, column)), []).append(column)
    usual = [name for name in COLUMN_ALIASES[role] if name in by_name]
    if role in _ORDERED:
        usual = [n for n in usual if not any(_is_running_number(frame[c]) for c in by_name[n])][:1]
    fits = [column for name in usual for column in by_name[name] if column not in used]
    if any(not frame[column].equals(frame[fits[0]]) for column in fits[1:]):
        called = [original.get(column, column) for column in fits]
        names = ", ".join(map(repr, called))
        distinct = has_option and len(set(called)) > 1
        remedy = f"Say which with --columns {role}=NAME" if distinct else "Rename one"
        raise UserError(
            f"{path}: several columns could be the {role.replace('_', ' ')}, and they differ: "
            f"{names}. {remedy}, or remove the others."
        )
    return fits[0] if fits else ""


def _is_running_number(column: pd.Series) -> bool:
    """Whether a column only numbers the rows; as paths, each would name an image of its own."""
    if len(column) < _MIN_RUNNING or not column.str.fullmatch(r"\s*[0-9]{1,15}\s*").all():
        return False
    numbers = column.astype("int64")
    return bool(numbers.is_unique and numbers.max() - numbers.min() == len(numbers) - 1)


def _missing_message(
    path: Path, parsed: ParsedCsv, missing: Sequence[str], has_option: bool
) -> str:
    """The message about required columns that aren't there."""
    others = {role: ", ".join(COLUMN_ALIASES[role][1:]) for role in missing}
    expected = "; ".join(f"{role} or {o}" if o else role for role, o in others.items())
    example = ",".join(f"{role}=NAME" for role in missing)
    numbers: list[str] = []
    if set(missing) & set(_ORDERED):  # else such a column would have been taken
        aliases = COLUMN_ALIASES["image_path"]
        numbers = [repr(name) for name in map(str, parsed.frame) if canonical_name(name) in aliases]
    only = f" {', '.join(numbers)} just numbers the rows." if numbers else ""
    remedy = f"Name it with --columns {example}." if has_option else "Rename it in the file."
    return f"{path} lacks the column {expected}. {_listed(parsed)}{only} {remedy}"


def _listed(parsed: ParsedCsv) -> str:
    """The columns a table has, in quotes that show stray blanks."""
    names = ", ".join(repr(name) for name in parsed.header)
    if not parsed.separator:
        return f"Its records have {names}."
    marks = ", ".join(f"{mark}s" for mark in SEPARATORS.values())
    if len(parsed.header) > 1:
        return f"It has {names}, separated by {SEPARATORS[parsed.separator]}s."
    return f"It has only one column, {names}; columns may be separated by {marks}."


def _rename(frame: pd.DataFrame, source_names: Mapping[str, str]) -> pd.DataFrame:
    """Name columns by their roles; a column whose name is given to another gets a longer one."""
    names = {column: role for role, column in source_names.items()}
    in_the_way = {
        role: _UNUSED.format(role) for role in source_names if role in frame and role not in names
    }
    return frame.rename(columns=names | in_the_way)


def add_columns_option(parser: argparse.ArgumentParser) -> None:
    """Add `--columns image_path=img,answer=gt` to a parser; `args.columns` is a dict."""
    parser.add_argument(
        "--columns",
        type=parse_columns_option,
        default={},
        metavar="NAME=COLUMN,…",
        help="names of your table's columns, e.g. image_path=img,answer=gt; NAME= ignores a column "
        "(default: the usual names, in any case)",
    )


def parse_columns_option(text: str) -> dict[str, str]:
    """Parse "image_path=img,answer=gt" into a dict.

    Args:
        text: the option's value.

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
