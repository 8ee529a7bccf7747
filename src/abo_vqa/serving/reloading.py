"""Other weights without a restart: loaded beside the old ones, which serve until then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from abo_vqa.core.errors import UserError
from abo_vqa.core.log import get_logger
from abo_vqa.serving.metrics import ServerMetrics
from abo_vqa.serving.pool import WorkerPool
from abo_vqa.serving.problems import ProblemError
from abo_vqa.serving.source import ModelSource
from abo_vqa.serving.state import StateFolder, Wanted

logger = get_logger(__name__)

_POLL_S = 0.1
_LONGEST_S = 1800.0  # a large model from a slow disk


@dataclass(frozen=True)
class Reloaded:
    """What is served after a reload.

    Attributes:
        source: the model.
        changed: whether it is another one than before.
    """

    source: ModelSource
    changed: bool


class Reloader:
    """Exchanges the model.

    Args:
        resolve: finds the model that is to be served now.
        source: the one that is served.
        state: tells the workers.
        pool: knows the workers.
        metrics: counts the changes.
    """

    def __init__(
        self,
        resolve: Callable[[], ModelSource],
        source: ModelSource,
        state: StateFolder,
        pool: WorkerPool,
        metrics: ServerMetrics,
    ) -> None:
        self._resolve, self.source = resolve, source
        self._state, self._dispatcher, self._metrics = state, pool, metrics
        self._generation = 0
        self._lock = asyncio.Lock()
        self._announce()

    def _announce(self) -> None:
        self._state.want(Wanted(self._generation, self.source))
        self._metrics.set_model(self.source.name, self.source.version)

    async def reload(self) -> Reloaded:
        """Look the model up again, and serve it if it has changed.

        Raises:
            ProblemError: it can't be loaded; the old one goes on serving.
        """
        async with self._lock:
            try:
                return await self._exchange()
            except UserError as error:
                self._metrics.count_reload("failed")
                message = f"the old model goes on serving ({self.source.version}): {error}"
                logger.error(f"reload failed; {message}")
                raise ProblemError(409, "reload-failed", message) from error

    async def _exchange(self) -> Reloaded:
        newest, before = await asyncio.to_thread(self._resolve), self.source
        if newest == before:
            self._metrics.count_reload("unchanged")
            return Reloaded(before, changed=False)
        if reason := await self._send(newest):
            await self._send(before)  # those that succeeded go back
            raise UserError(reason)
        self.source = newest
        self._metrics.set_model(newest.name, newest.version)
        self._metrics.count_reload("changed")
        logger.info(f"serving {newest.name} ({newest.version}), after {before.version}")
        return Reloaded(newest, changed=True)

    async def _send(self, source: ModelSource) -> str:
        """Have all workers load a model; return why one of them couldn't, or ""."""
        self._generation += 1
        self._state.want(Wanted(self._generation, source))
        for _ in range(int(_LONGEST_S / _POLL_S)):
            await asyncio.sleep(_POLL_S)
            reports = [self._state.reported(n) for n in range(self._dispatcher.worker_count)]
            current = [reason for at, reason in reports if at == self._generation]
            if len(current) == len(reports):
                return next(filter(None, current), "")
        return "the workers don't answer"
