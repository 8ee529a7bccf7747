"""The engine that needs nothing: this process."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

from abo_vqa.core.engine.work import ONE_CORE, Engine, Needs, Work, Workers

_Batch = TypeVar("_Batch")
_Result = TypeVar("_Result")


class LocalEngine(Engine):
    """Computes in this process, batch after batch."""

    def workers(
        self, make: Callable[[], Work[_Batch, _Result]], needs: Needs = ONE_CORE
    ) -> Workers[_Batch, _Result]:
        """Return this process; see `Engine.workers`."""
        return _LocalWorkers(make)

    def room(self, needs: Needs = ONE_CORE) -> int:
        """Return 1: this process."""
        return 1


class _LocalWorkers(Workers[_Batch, _Result]):
    """This process.

    Args:
        make: makes the work, when it is needed first.
    """

    def __init__(self, make: Callable[[], Work[_Batch, _Result]]) -> None:
        self._make = make
        self._work: Work[_Batch, _Result] | None = None

    def run(
        self, batches: Sequence[_Batch], *, in_order: bool = False
    ) -> Generator[tuple[int, _Result], None, None]:
        """Apply the work to batches; see `Workers.run`."""
        if batches:
            self._work = self._work or self._make()
            yield from enumerate(self._work(batches))

    def close(self) -> None:
        """Close what the work has open."""
        getattr(self._work, "close", lambda: None)()
        self._work = None
