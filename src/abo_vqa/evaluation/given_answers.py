"""Other people's tables of answers and predictions: which rows can be scored, and why not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from abo_vqa.core.errors import UserError
from abo_vqa.data.columns import read_columns

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NO_ERROR = frozenset({"", "false", "nan", "none", "null", "na", "n/a", "nil", "0", "0.0", "[]"})
_SUMMARY = frozenset({"average", "avg", "mean", "median", "overall", "std", "sum", "total"})
_SHOWN = 5  # lines named in a message


@dataclass(frozen=True)
class _GivenAnswers:
    """A table's rows that are scored.

    Attributes:
        table: the file's rows and columns under their own names, those that aren't scored too.
        rows: the scored rows: answer, prediction, error ("": none), and question and image_path
            where the table has them.
        kept: [n of table] which rows these are.
        taken: meaning → the column it was found in.
        described: the same in a line for the terminal.
        notes: what a reader of the numbers has to know, a line each.
    """

    table: pd.DataFrame
    rows: pd.DataFrame
    kept: NDArray[np.bool_]
    taken: Mapping[str, str]
    described: str
    notes: tuple[str, ...]


def read_answers(path: Path, chosen: Mapping[str, str] | None = None) -> _GivenAnswers:
    """Read a table with references and predictions under any of their usual names.

    Args:
        chosen: column by meaning where the usual names don't do; "" for one that isn't to be used.

    Raises:
        UserError: there is no column of references or predictions, or several; no row is left;
            or a row has both a prediction and an error.
    """
    optional = ("question", "image_path", "error")
    columns = read_columns(path, ("answer", "prediction"), optional, chosen)
    frame, lines, taken = columns.frame, columns.lines, columns.taken
    if frame.empty:
        raise UserError(f"{path} has no rows to score.")
    rows = frame[list(taken)].copy()
    rows["error"] = errors(frame["error"]) if "error" in taken else ""
    _contradictions(path, rows, lines)
    kept = ~_summary_rows(rows)
    if not kept.any():
        raise UserError(
            f"{path} has no row to score: {taken['answer']} is empty in all {len(rows):,}. "
            "Name the column of the right answers with --columns answer=…"
        )
    own = frame.rename(columns=columns.names)
    notes = tuple(_remarks(rows, kept, lines))
    return _GivenAnswers(
        own, rows[kept].reset_index(drop=True), kept, taken, columns.describe(), notes
    )


def errors(column: pd.Series) -> pd.Series:
    """A column of errors with "" for every way of saying that there was none."""
    said = column.str.strip()
    return said.where(~said.str.lower().isin(_NO_ERROR), "")


def _contradictions(path: Path, rows: pd.DataFrame, lines: NDArray[np.int64]) -> None:
    """Raise UserError if a row has an error and a prediction: one of the two is out of date."""
    both = (rows["error"] != "") & (rows["prediction"].str.strip() != "")
    if both.any():
        first = rows[both].iloc[0]
        raise UserError(
            f"{path}: {int(both.sum()):,} row(s) have both a prediction and an error "
            f"({places(lines[both.to_numpy()])}; the first: {first['prediction']!r} and "
            f"{first['error']!r}). Which holds? With --columns error= the errors are ignored, and "
            "all predictions scored; to have such rows counted as failed, empty the predictions."
        )


def _summary_rows(rows: pd.DataFrame) -> NDArray[np.bool_]:
    """[n] rows that are no question: no reference, and none asked ("AVERAGE" at a table's end)."""
    blank = rows["answer"].str.strip() == ""
    subject = next((name for name in ("question", "image_path") if name in rows), None)
    if subject is None:
        return np.asarray(blank, dtype=np.bool_)
    named = rows[subject].str.strip().str.lower()
    return np.asarray(blank & ((named == "") | named.isin(_SUMMARY)), dtype=np.bool_)


def _remarks(rows: pd.DataFrame, kept: NDArray[np.bool_], lines: NDArray[np.int64]) -> list[str]:
    """Rows left out, and rows that can't be right, with their lines."""
    said = []
    if not kept.all():
        said.append(
            f"left out: {int((~kept).sum()):,} row(s) without a reference and a question "
            f"({places(lines[~kept])})"
        )
    empty = np.asarray(rows["answer"].str.strip() == "", dtype=np.bool_) & kept
    if empty.any():
        said.append(
            f"{int(empty.sum()):,} row(s) have an empty reference and count as wrong "
            f"({places(lines[empty])})"
        )
    return said


def places(lines: NDArray[np.int64]) -> str:
    """ "line 3", or "lines 3, 4, 9 and 12 more"."""
    named = ", ".join(str(line) for line in lines[:_SHOWN])
    more = f" and {len(lines) - _SHOWN:,} more" if len(lines) > _SHOWN else ""
    return f"line{'s' if len(lines) > 1 else ''} {named}{more}"
