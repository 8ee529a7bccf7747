"""Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table.

    Args:
        header: the columns' names.
        rows: the cells; a `|` in them is escaped.
    """
    lines = [header, ["---"] * len(header), *rows]
    cells = ([cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines[2:])
    head = (list(line) for line in lines[:2])
    return "\n".join("| " + " | ".join(line) + " |" for line in [*head, *cells]) + "\n"


def as_yaml(value: Any) -> str:
    """Return a value as a YAML file would have it, in code; nothing for a value that isn't there.

    Args:
        value: of a setting.
    """
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, list):
        return f"`[{', '.join(map(str, value))}]`"
    return "`null`" if value is None else f"`{value}`"


def plain_text(text: str) -> str:
    """Return text in which Markdown and HTML find nothing to format.

    Args:
        text: a comment, or an option's help.
    """
    for character in "\\*_[]$":
        text = text.replace(character, f"\\{character}")
    return text.replace("<", "&lt;").replace(">", "&gt;")
