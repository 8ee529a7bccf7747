"""The contract between a stage and an engine: work, what its workers need, and their results."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar

_Batch = TypeVar("_Batch")
_Result = TypeVar("_Result")

Work: TypeAlias = Callable[[Sequence[_Batch]], Iterator[_Result]]
"""Turns batches into one result each, in their order; it may load one while it computes another.

Where it has a method `close`, that is called in the end, unless the worker is killed.
"""

RunMap: TypeAlias = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]
"""Applies a function to batches in their order: `map` itself, or `Engine.map`."""


@dataclass(frozen=True)
class Needs:
    """What a worker takes of its machine.

    Attributes:
        cpus: cores.
        gpu: a GPU of its own; None: if the cluster has any.
    """

    cpus: int = 1
    gpu: bool | None = False


ONE_CORE = Needs()


class Workers(ABC, Generic[_Batch, _Result]):
    """Workers that make their work once, and keep it from run to run; a context manager."""

    def __enter__(self) -> Workers[_Batch, _Result]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def run(
        self, batches: Sequence[_Batch], *, in_order: bool = False
    ) -> Generator[tuple[int, _Result], None, None]:
        """Apply the work to batches; closing the generator stops it.

        Args:
            batches: what is dealt.
            in_order: yield results in the batches' order, not as they come. Then only a few are
                held back: a worker that is far ahead waits.

        Yields:
            A batch's position and its result.

        Raises:
            UserError: this work can't run here, or as the work says.
            RetryLaterError: workers died again and again.
        """

    @abstractmethod
    def close(self) -> None:
        """End the workers."""


class Engine(ABC):
    """Provides workers."""

    @abstractmethod
    def workers(
        self, make: Callable[[], Work[_Batch, _Result]], needs: Needs = ONE_CORE
    ) -> Workers[_Batch, _Result]:
        """Return workers; they start when there is something to do.

        Args:
            make: makes a worker's work, once in each; can be pickled.
            needs: what a worker takes.
        """

    @abstractmethod
    def room(self, needs: Needs = ONE_CORE) -> int:
        """Return how many workers there is room for at the moment, at least one.

        Args:
            needs: what a worker takes.
        """

    def run(
        self,
        make: Callable[[], Work[_Batch, _Result]],
        batches: Sequence[_Batch],
        needs: Needs = ONE_CORE,
        *,
        in_order: bool = False,
    ) -> Generator[tuple[int, _Result], None, None]:
        """Apply work to batches with workers that end afterwards; see `Workers.run`."""
        with self.workers(make, needs) as workers:
            yield from workers.run(batches, in_order=in_order)

    def map(
        self,
        function: Callable[[_Batch], _Result],
        batches: Iterable[_Batch],
        needs: Needs = ONE_CORE,
    ) -> Iterator[_Result]:
        """Apply a function to batches; like Python's `map`, results come in order.

        A single batch isn't worth a worker's start.

        Args:
            function: can be pickled.
            batches: what is dealt.
            needs: what a worker takes.
        """
        dealt = batches if isinstance(batches, Sequence) else list(batches)
        if len(dealt) == 1 and not needs.gpu:
            yield function(dealt[0])
            return
        results = self.run(partial(_each, function), dealt, needs, in_order=True)
        with closing(results):
            for _, result in results:
                yield result


def _each(function: Callable[[_Batch], _Result]) -> Work[_Batch, _Result]:
    """Return a function as work."""
    return partial(map, function)
