"""Tables in aligned columns, for the terminal."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def align_columns(
    header: Sequence[str], rows: Sequence[Sequence[str]], left: Collection[int] = ()
) -> list[str]:
    """Align a table's columns: the first on the left, the others on the right.

    Args:
        header: the columns' names.
        rows: their cells.
        left: the numbers of further columns on the left.

    Returns:
        The lines, the header first, without blanks at their ends.
    """
    table = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if number == 0 or number in left else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
