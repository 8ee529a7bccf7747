"""How much of the test set can be right at most, in words (`evaluation.ceiling`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from abo_vqa.reporting.formatting import count, interval_text, percent

NOT_MEASURED = (
    "How much can be right at most isn't measured: nobody has reviewed the answers "
    "(abo-vqa generate --review page.html writes a page for it)."
)


def ceiling_note(ceiling: Mapping[str, Any] | None) -> str:
    """Return what belongs to the name of a column of accuracies: "at most about 91%", or ""."""
    return f"at most about {percent(ceiling['accuracy'], 0)}" if ceiling else ""


def ceiling_sentence(ceiling: Mapping[str, Any] | None) -> str:
    """Return the ceiling with its interval and what it rests on, or why there is none.

    Args:
        ceiling: `ceiling` of evaluation.json, None if there is none.
    """
    if not ceiling:
        return NOT_MEASURED
    wrong, raters = ceiling["wrong"], ceiling["raters"]
    people = "person" if raters == 1 else "people"
    return (
        f"At most about {percent(ceiling['accuracy'])} can be right (95% interval "
        f"{interval_text((ceiling['low'], ceiling['high']))}): of {count(ceiling['pairs'])} pairs "
        f"that {raters} {people} reviewed, {percent(wrong['share'])} were wrong (95% interval "
        f"{interval_text((wrong['low'], wrong['high']))})."
    )
