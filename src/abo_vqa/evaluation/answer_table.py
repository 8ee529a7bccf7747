"""Users' own tables of answers and predictions: which rows can be scored, and why not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from abo_vqa.core.errors import UserError
from abo_vqa.data.columns import Columns, read_columns

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NO_ERROR = frozenset({"", "false", "nan", "none", "null", "na", "n/a", "nil", "0", "0.0", "[]"})
_SUMMARY_NAMES = frozenset(
    {"average", "avg", "mean", "median", "overall", "std", "sum", "total"}
)  # fmt: skip


@dataclass(frozen=True)
class AnswerTable:
    """A table with the rows that are scored.

    Attributes:
        table: all rows of the file, with its columns under their own names.
        rows: the scored rows: answer, prediction, error ("" for none), and question and image_path
            where the table has them.
        mask: [n of table] the scored rows among all.
        columns: meaning → the column it was found in.
        description: the same in one line for the terminal.
        notes: what a reader of the numbers has to know, one line each.
    """

    table: pd.DataFrame
    rows: pd.DataFrame
    mask: NDArray[np.bool_]
    columns: Mapping[str, str]
    description: str
    notes: tuple[str, ...]


def read_answer_table(path: Path, chosen: Mapping[str, str] | None = None) -> AnswerTable:
    """Read a table with references and predictions under any of their usual names.

    Args:
        path: the CSV.
        chosen: meaning → column where it has no usual name; "" for one that isn't to be used.

    Returns:
        The table and the rows to score.

    Raises:
        UserError: there is no column of references or predictions, or several; no row is left;
            or a row has both a prediction and an error.
    """
    optional = ("question", "image_path", "error")
    columns = read_columns(path, ("answer", "prediction"), optional, chosen)
    frame, taken = columns.frame, columns.source_names
    if frame.empty:
        raise UserError(f"{path} has no rows to score.")
    rows = frame[list(taken)].copy()
    rows["error"] = _normalised_errors(frame["error"]) if "error" in taken else ""
    _refuse_contradictions(columns, rows)
    mask = ~_is_summary_row(rows)
    if not mask.any():
        raise UserError(
            f"{path} has no row to score: {taken['answer']} is empty in all {len(rows):,}. "
            "Name the column of the right answers with --columns answer=…"
        )
    return AnswerTable(
        table=frame.rename(columns=columns.names),
        rows=rows[mask].reset_index(drop=True),
        mask=mask,
        columns=taken,
        description=columns.describe(),
        notes=tuple(_notes(columns, rows, mask)),
    )


def _normalised_errors(column: pd.Series) -> pd.Series:
    """A column of errors with "" for every spelling of "no error"."""
    stripped = column.str.strip()
    return stripped.where(~stripped.str.lower().isin(_NO_ERROR), "")


def _refuse_contradictions(columns: Columns, rows: pd.DataFrame) -> None:
    """Raise UserError if a row has an error and a prediction: one of the two is out of date."""
    both = (rows["error"] != "") & (rows["prediction"].str.strip() != "")
    if both.any():
        first = rows[both].iloc[0]
        raise UserError(
            f"{columns.path}: {int(both.sum()):,} row(s) have both a prediction and an error "
            f"({columns.places(both.to_numpy())}; the first: {first['prediction']!r} and "
            f"{first['error']!r}). To ignore the errors and score all predictions, add "
            "--columns error=; to have such rows counted as failed, empty the predictions."
        )


def _is_summary_row(rows: pd.DataFrame) -> NDArray[np.bool_]:
    """[n] summary rows: neither a reference nor a question ("AVERAGE" at the end)."""
    blank = rows["answer"].str.strip() == ""
    subject = next((name for name in ("question", "image_path") if name in rows), None)
    if subject is None:
        return np.asarray(blank, dtype=np.bool_)
    names = rows[subject].str.strip().str.lower()
    return np.asarray(blank & ((names == "") | names.isin(_SUMMARY_NAMES)), dtype=np.bool_)


def _notes(columns: Columns, rows: pd.DataFrame, mask: NDArray[np.bool_]) -> list[str]:
    """Rows left out, and rows that can't be right, with their lines."""
    notes = []
    if not mask.all():
        notes.append(
            f"left out: {int((~mask).sum()):,} row(s) with neither a reference nor a question "
            f"({columns.places(~mask)})"
        )
    empty = np.asarray(rows["answer"].str.strip() == "", dtype=np.bool_) & mask
    if empty.any():
        notes.append(
            f"{int(empty.sum()):,} row(s) have an empty reference and count as wrong "
            f"({columns.places(empty)})"
        )
    return notes
