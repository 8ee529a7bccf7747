"""How a reviewed pair came to its page: at random, or because its answer is suspicious."""

from __future__ import annotations

from abo_vqa.core.errors import UserError

RANDOM, SUSPICIOUS = "random", "suspicious"
DRAWN_COLUMN = "drawn"
"""The column of pages' tables, of what people save, and of data/reviewed.csv."""


def parse_drawn(text: str, place: str) -> str:
    """Return `RANDOM` or `SUSPICIOUS`, whatever the case; an empty cell means `RANDOM`.

    Args:
        text: a cell of the column `drawn`.
        place: where it is, for the message.

    Raises:
        UserError: it is anything else.
    """
    drawn = text.strip().lower() or RANDOM
    if drawn not in (RANDOM, SUSPICIOUS):
        raise UserError(
            f"{place}: {DRAWN_COLUMN} must be {RANDOM} or {SUSPICIOUS}, found {text!r}. "
            f"An empty cell counts as {RANDOM}."
        )
    return drawn
