"""Where a stage's work runs: in this process, or dealt to the workers of a Ray cluster.

A stage gives *work*: what a worker makes once (a loaded model, an open archive) and then applies to
batches; and says what a worker needs. Batches are formed before they are dealt, so neither the
engine nor the number of workers changes which rows are computed together, and with it a result.
Whatever is to survive (journals, tables, money) is the caller's, who is alone: workers return
results and write nothing.

    def make() -> Work[list[str], int]:
        archive = open_archive(raw)
        return lambda batches: (sum(map(len, map(archive.read, paths))) for paths in batches)

    with open_engine(config) as engine, engine.workers(make) as workers:
        for position, size in workers.run(batches):
            ...
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

from abo_vqa.core.errors import UserError

if TYPE_CHECKING:
    from abo_vqa.core.config import Config

_Batch = TypeVar("_Batch")
_Result = TypeVar("_Result")

Work: TypeAlias = Callable[[Sequence[_Batch]], Iterator[_Result]]
"""Turns batches into one result each, in their order; it may load one while it computes another.

Where it has a method `close`, that is called in the end, unless the worker is killed.
"""


@dataclass(frozen=True)
class Needs:
    """What a worker takes of its machine.

    Attributes:
        cpus: cores.
        gpu: a GPU of its own; None: if the cluster has any.
        memory: bytes, for the cluster's bookkeeping; 0: whatever there is.
    """

    cpus: int = 1
    gpu: bool | None = False
    memory: int = 0


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

        Args:
            function: can be pickled.
            batches: what is dealt.
            needs: what a worker takes.
        """
        results = self.run(partial(_each, function), list(batches), needs, in_order=True)
        with closing(results):
            for _, result in results:
                yield result


def _each(function: Callable[[_Batch], _Result]) -> Work[_Batch, _Result]:
    """Return a function as work."""
    return partial(map, function)


class LocalEngine(Engine):
    """Computes in this process, batch after batch."""

    def workers(
        self, make: Callable[[], Work[_Batch, _Result]], needs: Needs = ONE_CORE
    ) -> Workers[_Batch, _Result]:
        """Return this process; see `Engine.workers`."""
        return _LocalWorkers(make)


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


@contextmanager
def open_engine(config: Config) -> Generator[Engine, None, None]:
    """Open the engine that `compute.engine` names.

    Args:
        config: the settings.

    Yields:
        The engine; on Ray, the connection to the cluster ends with the block.

    Raises:
        UserError: Ray isn't installed, or the cluster can't be reached.
    """
    if config.compute.engine == "local":
        yield LocalEngine()
        return
    try:
        from abo_vqa.core.on_ray.engine import RayEngine
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise UserError(
            "compute.engine is ray, and the package isn't installed: `make setup EXTRAS=scale`; or "
            "set compute.engine to local."
        ) from error
    with closing(RayEngine(config.compute.workers, config.threads)) as engine:
        yield engine


def model_needs(config: Config) -> Needs:
    """Return what a worker takes that runs a model.

    Args:
        config: the settings.

    Raises:
        UserError: `compute.device` names one GPU, and workers have one each.
    """
    device = config.compute.device
    if config.compute.engine == "ray" and ":" in device:
        raise UserError(
            f"compute.device is {device}, one GPU of one machine, but compute.engine is ray, whose "
            "workers have a GPU each. Set compute.device to auto, cuda or cpu."
        )
    gpu = {"cpu": False, "auto": None}.get(device, True)
    return Needs(cpus=config.threads, gpu=gpu)
