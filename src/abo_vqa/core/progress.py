"""Progress on a terminal and in a log."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    pass


T = TypeVar("T")


def progress(
    items: Iterable[T], *, total: int | None = None, desc: str = "", unit: str = "it"
) -> Iterable[T]:
    """Show progress on stderr; in a log file a line every 10 s instead of a repainted bar."""
    import sys

    from tqdm import tqdm

    interval = 0.2 if sys.stderr.isatty() else 10.0
    bar: Iterable[T] = tqdm(items, total=total, desc=desc, unit=unit, mininterval=interval)
    return bar
