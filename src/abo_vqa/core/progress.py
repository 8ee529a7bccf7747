"""Progress bars on stderr: repainted on a terminal, one line every 10 s in a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import NoReturn, TypeVar

from tqdm import tqdm

_T = TypeVar("_T")


def progress_bar(
    total: int | None,
    *,
    initial: int = 0,
    desc: str = "",
    unit: str = "it",
    disable: bool = False,
    unit_scale: bool = False,
    delay: float = 0.0,
    leave: bool = True,
) -> tqdm[NoReturn]:
    """Return a bar to be updated by hand.

    Args:
        total: what counts as finished; None if it isn't known.
        initial: how much of it was done before; more than `total` counts as all.
        desc: the bar's title.
        unit: what is counted, in the singular.
        disable: show nothing, e.g. on all processes but the first.
        unit_scale: abbreviate large numbers, e.g. as MB.
        delay: seconds of work before the bar appears.
        leave: whether it stays on the terminal when it is closed.
    """
    return tqdm(
        total=total,
        initial=initial if total is None else max(0, min(initial, total)),
        desc=desc,
        unit=unit,
        disable=disable,
        unit_scale=unit_scale,
        delay=delay,
        leave=leave,
        mininterval=_interval(),
    )


def progress(
    items: Iterable[_T], *, total: int | None = None, desc: str = "", unit: str = "it"
) -> Iterable[_T]:
    """Iterate over `items` while a bar shows how far the work is.

    Args:
        items: what is worked on.
        total: how many there are, where `items` doesn't say so itself.
        desc: the bar's title.
        unit: what is counted, in the singular.
    """
    bar: Iterable[_T] = tqdm(items, total=total, desc=desc, unit=unit, mininterval=_interval())
    return bar


class BarNote:
    """What stands behind a bar: a cost, and what the work waits for.

    It is painted at the bar's own pace, also while nothing advances.
    """

    def __init__(self, bar: tqdm[NoReturn]) -> None:
        """Start without a note.

        Args:
            bar: the bar.
        """
        self._bar, self._painted = bar, ""
        self._cost = self._wait = ""

    def update(self, *, cost: str | None = None, wait: str | None = None) -> None:
        """Change the note; call it again and again while nothing else updates the bar.

        Args:
            cost: an amount; None leaves it as it is.
            wait: what the work waits for, "" if it doesn't; None leaves it as it is.
        """
        self._cost = self._cost if cost is None else cost
        self._wait = self._wait if wait is None else wait
        bar, text = self._bar, ", ".join(filter(None, (self._cost, self._wait)))
        bar.set_postfix_str(text, refresh=False)
        if bar.disable or text == self._painted:
            return
        now = time.time()
        if now - bar.last_print_t >= bar.mininterval and now >= bar.start_t + (bar.delay or 0):
            self._painted, bar.last_print_t = text, now
            bar.refresh()


def _interval() -> float:
    """Seconds between two repaints."""
    return 0.2 if sys.stderr.isatty() else 10.0
