"""Rows of a CSV that don't have one field per column: what they have in common is the likely fault.

Only what the message needs is kept: a file may have millions of them.
"""

from __future__ import annotations

from collections.abc import Sequence

_SHOWN = 3  # places named in a message


class WrongLengths:
    """Counts rows of the wrong length.

    Attributes:
        rows: how many rows there are, wrong or not.
        last_start: the line the last of them starts on.
        count: how many are wrong.
    """

    def __init__(self, columns: int) -> None:
        """Begin without a row.

        Args:
            columns: how many fields a row should have.
        """
        self.rows = self.last_start = self.count = 0
        self._columns = columns
        self._lengths: set[int] = set()
        self._places: list[str] = []
        self._last_wrong = 0
        self._ends_in_separators = True

    def add(self, start: int, row: Sequence[str]) -> None:
        """Add a row of the wrong length.

        Args:
            start: the line it starts on.
            row: its fields.
        """
        self.count += 1
        self._last_wrong = start
        self._lengths.add(len(row))
        if self.count <= _SHOWN:
            self._places.append(f"line {start} has {len(row)}")
        surplus = row[self._columns :]
        self._ends_in_separators &= bool(surplus) and not any(surplus)

    def describe(self) -> str:
        """Say which rows are wrong, and what may be the matter."""
        few = min(self._lengths) < self._columns
        many = max(self._lengths) > self._columns
        kind = "fewer or more" if few and many else "fewer" if few else "more"
        places = ", ".join(self._places)
        more = f" and {self.count - _SHOWN:,} others" if self.count > _SHOWN else ""
        return (
            f"{self.count:,} line(s) have {kind} fields than the header, which has "
            f"{self._columns}: {places}{more}. {self._hint(few, many)}"
        )

    def _hint(self, few: bool, many: bool) -> str:
        """Guess what is wrong.

        Args:
            few: whether rows have fewer fields than the header.
            many: whether rows have more.
        """
        if self.count == self.rows and len(self._lengths) == 1:
            if self._columns > 1 and self._lengths == {1}:
                return "Do the lines have another separator than the header?"
            if self._ends_in_separators:
                return "Each line ends in separators that the header lacks: remove them."
            return "All lines agree, so the header may be wrong: is it the first line of the file?"
        hints = ["Text with separators needs quotes."] if many else []
        if few:
            cut = self._last_wrong == self.last_start
            hints.append(
                "Was the file cut off?" if cut else "Empty fields still need their separators."
            )
        return " ".join(hints)
