"""Batches dealt to workers, and dealt again if a worker dies.

Ray would restart an actor itself, but where its machine has gone and the others are full, the
batches that it had would wait for a new machine, with everything else done: so they are dealt anew
to any worker that is free. What reaches the driver is on record there, and only what a dead worker
hadn't returned yet is computed twice.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray import cloudpickle
from ray.exceptions import RayError, RayTaskError

from abo_vqa.core.engine.on_ray.cluster import ClusterWatch, log_folder
from abo_vqa.core.engine.on_ray.worker import Worker, sources_digest
from abo_vqa.core.engine.work import Needs, Work, Workers
from abo_vqa.core.errors import RetryLaterError, UserError, first_line
from abo_vqa.core.log import get_logger

logger = get_logger(__name__)

ATTEMPTS = 4
"""At one batch, before the run ends: its workers may die of the batch."""
_CHUNK = 16  # batches that a worker has at most: it loads one while it computes another
_POLL_S = 5.0  # between two looks at the cluster while nothing comes
_PATIENCE_S = 60.0  # without a worker, before a message says what is waited for


@dataclass(eq=False)
class _Member:
    """A worker as the driver knows it.

    Attributes:
        actor: its handle.
        waiting_for: what its next word comes from: its start, or the results of a chunk.
        host: its machine, once it has started.
        chunk: positions of the batches that it has, without those whose results have come.
    """

    actor: Any
    waiting_for: Any
    host: str = ""
    chunk: deque[int] = field(default_factory=deque)


class RayWorkers(Workers[Any, Any]):
    """Workers on the cluster, and the batches that are dealt to them.

    Args:
        make: makes a worker's work.
        needs: what a worker takes.
        workers: how many; None for as many as there is room for.
        threads: of each worker.
    """

    def __init__(
        self, make: Callable[[], Work[Any, Any]], needs: Needs, workers: int | None, threads: int
    ) -> None:
        self._pickled = ray.put(cloudpickle.dumps(make))  # type: ignore[no-untyped-call]
        self._sources = sources_digest()
        self._needs, self._limit, self._threads = needs, workers, threads
        self._members: list[_Member] = []
        self._cluster = ClusterWatch()
        self._failed_starts = 0
        self._messages: set[str] = set()
        self._processors: dict[str, str] = {}  # each with the first machine that has it
        self._begin((), in_order=False)

    def _begin(self, batches: Sequence[Any], *, in_order: bool) -> None:
        """Prepare to deal batches."""
        self._options, room = actor_options(self._needs)
        self._count = min(self._limit or room, len(batches))
        self._batches, self._in_order = batches, in_order
        self._pending = deque(range(len(batches)))
        self._attempts = [0] * len(batches)
        self._next = 0  # in order: the position that is yielded next
        self._early: dict[int, Any] = {}  # in order: results that came before their turn

    def run(
        self, batches: Sequence[Any], *, in_order: bool = False
    ) -> Generator[tuple[int, Any], None, None]:
        """Apply the work to batches; see `Workers.run`."""
        if not batches:
            return
        self._begin(batches, in_order=in_order)
        self._deal_to_idle()
        left, quiet_since = len(batches), time.monotonic()
        try:
            while left:
                self._hire()
                ready = self._wait()
                self._cluster.check()
                if ready is None:
                    quiet_since = self._look_around(quiet_since)
                    continue
                quiet_since = time.monotonic()
                for position, result in self._hear(ready):
                    left -= 1
                    yield position, result
            self._wind_up()
        except BaseException:  # they may be in the middle of something
            self.close()
            raise

    def close(self) -> None:
        """End all workers; those of a cluster that has ended have ended with it."""
        for member in self._members:
            self._dismiss(member)
        self._members.clear()

    def _dismiss(self, member: _Member) -> None:
        """End a worker, which may have died."""
        if not self._cluster.lost:
            with suppress(RayError, ValueError):
                ray.kill(member.actor)

    def _wind_up(self) -> None:
        """Let workers that have returned all results end their chunks, and keep them."""
        for member in list(self._members):
            if member.host and member.waiting_for is not None:
                with suppress(StopIteration, RayError):
                    for _ in member.waiting_for:
                        pass
                member.waiting_for = None

    def _deal_to_idle(self) -> None:
        """Give batches to workers that have none."""
        for member in self._members:
            if member.host and member.waiting_for is None and self._pending:
                self._deal(member)

    def _hire(self) -> None:
        """Ask for as many workers as are wanted; those that there is no room for come later."""
        busy = sum(bool(member.chunk) for member in self._members)
        wanted = min(self._count, busy + len(self._pending))
        while len(self._members) < wanted:
            actor = Worker.options(  # type: ignore[attr-defined]
                **self._options
            ).remote(str(Path.cwd()), self._threads)
            self._members.append(_Member(actor, actor.start.remote(self._sources)))

    def _wait(self) -> _Member | None:
        """Return a worker that has something to say, or None if none has for a while."""
        asked = [member for member in self._members if member.waiting_for is not None]
        if self._in_order and any(self._next in member.chunk for member in asked):
            # A worker that is far ahead of the one that everybody waits for has to wait, too.
            limit = self._next + 2 * _CHUNK * self._count
            asked = [m for m in asked if not m.chunk or m.chunk[0] < limit]
        if not asked:
            time.sleep(0.1)
            return None
        ready, _ = ray.wait([m.waiting_for for m in asked], num_returns=1, timeout=_POLL_S)
        return next((m for m in asked if ready and m.waiting_for == ready[0]), None)

    def _hear(self, member: _Member) -> Iterator[tuple[int, Any]]:
        """Take a worker's next word; yield the results that are due."""
        try:
            if not member.host:
                self._welcome(member, *ray.get(member.waiting_for))
                return
            kind, value = ray.get(next(member.waiting_for))
        except StopIteration:
            assert not member.chunk, "work yields one result per batch"
            self._deal(member)
            return
        except RayTaskError:  # a fault of the work's, which another worker would meet as well
            raise
        except RayError as error:  # of the worker's, its machine's, or of what it sent
            self._replace(member, error)
            return
        if kind == "error":
            raise value
        if kind == "log":
            self._report(member, value)
            return
        position = member.chunk.popleft()
        if self._in_order:
            self._early[position] = value
            while self._next in self._early:
                self._next += 1
                yield self._next - 1, self._early.pop(self._next - 1)
        else:
            yield position, value

    def _welcome(self, member: _Member, host: str, processor: str, problem: str) -> None:
        """Give a worker that has started its first batches.

        Raises:
            UserError: it can't work where it is.
        """
        if problem:
            raise UserError(
                f"a worker on {host} can't start: {problem}. Every machine of the cluster needs "
                f"the same checkout at {Path.cwd()} (a shared folder, or the same image), and the "
                "same environment."
            )
        member.host, self._failed_starts = host, 0
        known = next(iter(self._processors.items()), (processor, host))
        if self._processors.setdefault(processor, host) == host and processor != known[0]:
            logger.warning(
                f"workers compute on different processors ({known[0]} on {known[1]}, {processor} "
                f"on {host}): results may differ by rounding from those of one machine "
                "(docs/scale-out.md)"
            )
        self._deal(member)

    def _deal(self, member: _Member) -> None:
        """Give a free worker its next batches, fewer towards the end so that all end together.

        A batch that a worker may have died of is dealt alone: the next death is its own.
        """
        size = max(1, min(_CHUNK, len(self._pending) // (3 * self._count)))
        if self._pending and self._attempts[self._pending[0]]:
            size = 1
        member.chunk = deque(self._pending.popleft() for _ in range(min(size, len(self._pending))))
        if not member.chunk:
            member.waiting_for = None
            return
        batches = [self._batches[position] for position in member.chunk]
        member.waiting_for = member.actor.compute.remote(self._pickled, batches)

    def _replace(self, member: _Member, error: RayError) -> None:
        """Take back the batches of a worker that has died.

        Raises:
            RetryLaterError: workers die again and again, or the cluster has ended.
        """
        self._cluster.check(now=True)
        self._members.remove(member)
        self._dismiss(member)
        reason = first_line(error)
        if not member.host:
            self._failed_starts += 1
            if self._failed_starts > ATTEMPTS:
                raise RetryLaterError(f"workers on the Ray cluster don't start: {reason}.")
            return
        for position in member.chunk:  # nobody knows which one it was at: see `_deal`
            self._attempts[position] += 1
        if max((self._attempts[position] for position in member.chunk), default=0) >= ATTEMPTS:
            raise RetryLaterError(
                f"{ATTEMPTS} workers died of the same batch, the last on {member.host}: {reason}. "
                f"Is its memory too small? Ray's logs are in {log_folder()} there. What is "
                "finished is kept: run the same command to continue."
            )
        logger.warning(f"a worker on {member.host} has died: its batches go to another one")
        self._pending.extendleft(reversed(member.chunk))
        if self._in_order:
            self._pending = deque(sorted(self._pending))
        self._deal_to_idle()

    def _look_around(self, quiet_since: float) -> float:
        """Grow with the cluster; say what is waited for, once, if there is no worker."""
        if self._limit is None:
            room = actor_options(self._needs)[1]
            self._count = max(self._count, min(room, len(self._batches)))
        started = any(member.host for member in self._members)
        if not started and time.monotonic() - quiet_since > _PATIENCE_S:
            wanted = {k: v for k, v in self._options.items() if k.startswith("num_") and v}
            logger.warning(f"waiting for a machine with room for a worker ({wanted})")
            return time.monotonic() + 10 * _PATIENCE_S
        return quiet_since

    def _report(self, member: _Member, message: tuple[int, str]) -> None:
        """Pass on a worker's message, if no other worker has sent the same."""
        level, text = message
        if text not in self._messages:
            self._messages.add(text)
            logger.log(level, f"{text} (worker on {member.host})")


def actor_options(needs: Needs) -> tuple[dict[str, Any], int]:
    """Return a worker's options, and how many the cluster has room for, at least one.

    No machine may have as many cores as are asked for: then a worker takes what the largest has.

    Args:
        needs: what a worker takes.
    """
    alive = (node for node in ray.nodes() if node["Alive"])  # type: ignore[no-untyped-call]
    nodes = [node["Resources"] for node in alive]
    gpu = needs.gpu if needs.gpu is not None else any(node.get("GPU") for node in nodes)
    largest = int(max((node.get("CPU", 0) for node in nodes), default=0))
    cpus = min(needs.cpus, largest) or needs.cpus
    room = sum(
        int(min(node.get("CPU", 0) // cpus, node.get("GPU", 0) if gpu else sys.maxsize))
        for node in nodes
    )
    options = {
        "num_cpus": cpus,
        "num_gpus": int(gpu),
        "max_restarts": 0,
        "max_task_retries": 0,
        "scheduling_strategy": "SPREAD",
    }
    return options, max(1, room)
