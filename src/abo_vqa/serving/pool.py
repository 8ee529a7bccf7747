"""The front end's side of LitServe's queues: a request goes in, and its answer is awaited."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Sequence
from typing import Any

import litserve as ls
from litserve.utils import LitAPIStatus, ResponseBufferItem, WorkerSetupStatus

from abo_vqa.core.errors import AboVqaError
from abo_vqa.core.log import get_logger
from abo_vqa.serving.metrics import ServerMetrics
from abo_vqa.serving.problems import ProblemError
from abo_vqa.serving.slots import Slots, Ticket
from abo_vqa.serving.state import StateFolder
from abo_vqa.serving.worker import INTERNAL_PATH, AnsweringAPI, WorkerReply, WorkerRequest

logger = get_logger(__name__)

_RETRY = {"Retry-After": "1"}
_WATCH_S = 0.5  # between looks at the workers
_HOPELESS = 3  # times that a worker may die, without an answer in between
_CONSUMER = 0  # LitServe's number of this front end, the only one


class WorkerError(AboVqaError):
    """The workers can't load a model, or die again and again."""

    exit_code = 2


class QueuesLostError(WorkerError):
    """The process with LitServe's queues died."""

    exit_code = 1


class ModelServer(ls.LitServer):  # type: ignore[misc]
    """LitServe's server, for its workers and queues: the front end has routes of its own."""

    def _init_manager(self, num_api_servers: int) -> Any:
        """Start the process with the queues, and have the workers know it."""
        manager = super()._init_manager(num_api_servers)
        self.lit_api.helper = manager._process.pid
        return manager


class WorkerPool:
    """Sends requests to the workers.

    Args:
        server: LitServe's server.
        api: its model.
        slots: how many requests there may be.
        state: what the workers report.
        metrics: counts the replies.
    """

    def __init__(
        self,
        server: ModelServer,
        api: AnsweringAPI,
        slots: Slots,
        state: StateFolder,
        metrics: ServerMetrics,
    ) -> None:
        self._server, self._api = server, api
        self.slots, self._state, self._metrics = slots, state, metrics
        self._deaths = 0
        self.draining = False

    @property
    def worker_count(self) -> int:
        """How many processes have a model."""
        return len(self._server.inference_workers)

    def check_capacity(self) -> None:
        """Refuse a request if there is no room for it.

        Raises:
            ProblemError: the server is full, or stops.
        """
        if self.draining:
            headers = {**_RETRY, "Connection": "close"}
            raise ProblemError(503, "stopping", "the server is stopping", headers=headers)
        if self.slots.used >= self.slots.capacity:
            raise self._overloaded()

    def _overloaded(self) -> ProblemError:
        detail = f"{self.slots.capacity} requests are being answered already: try again later"
        return ProblemError(503, "overloaded", detail, headers=_RETRY)

    def is_ready(self) -> bool:
        """Return whether all workers have their model and the server isn't stopping."""
        if self.draining or not self.is_alive():
            return False
        statuses = dict(self._server.workers_setup_status)
        ready = bool(statuses) and all(s == WorkerSetupStatus.READY for s in statuses.values())
        return ready and all(worker.is_alive() for worker in self._server.inference_workers)

    def is_alive(self) -> bool:
        """Return whether the queues still exist."""
        try:
            return self._server.workers_setup_status.copy() is not None
        except (OSError, EOFError):
            return False

    def take(self) -> Ticket:
        """Take a slot for a request, which `release` gives back.

        Raises:
            ProblemError: the server is full, or stops.
        """
        self.check_capacity()
        ticket = self.slots.take()
        if ticket is None:
            raise self._overloaded()
        return ticket

    async def ask(self, ticket: Ticket, image: bytes, questions: Sequence[str]) -> WorkerReply:
        """Have a model answer; the caller decides how long it waits.

        Args:
            ticket: the request's slot.
            image: the image file's bytes.
            questions: the questions.

        Raises:
            ProblemError: the model failed.
        """
        uid = str(uuid.uuid4())
        item = ResponseBufferItem(asyncio.Event())
        self._server.response_buffer[uid] = item
        request = WorkerRequest(ticket, image, tuple(questions), time.monotonic())
        try:
            queue = self._server._get_request_queue(INTERNAL_PATH)
            queue.put((_CONSUMER, uid, time.monotonic(), request))
            await item.event.wait()
        finally:
            self._server.response_buffer.pop(uid, None)
        return self._reply(item.response)

    def _reply(self, response: tuple[Any, Any]) -> WorkerReply:
        """Return what a worker sent, or raise what went wrong."""
        reply, status = response
        if status == LitAPIStatus.OK and isinstance(reply, WorkerReply):
            self._deaths = 0
            self._metrics.observe_reply(reply)
            return reply
        if reply is None:
            detail = "the process that was answering died; another one is being started"
            raise ProblemError(503, "worker-died", detail, headers=_RETRY)
        raise ProblemError(500, "internal", "the model failed; the server's log has the reason")

    async def watch(self) -> None:
        """Start dead workers again, and end their requests.

        Raises:
            WorkerError: a worker can't load its model, or dies again and again.
            QueuesLostError: nothing can be answered any more.
        """
        while True:
            await asyncio.sleep(_WATCH_S)
            if not self.is_alive():
                self._end_requests()
                raise QueuesLostError("the process with the queues died: start the server again")
            for number, worker in enumerate(self._server.inference_workers):
                if not worker.is_alive():
                    self._restart(number, worker.exitcode)

    def _restart(self, number: int, code: int | None) -> None:
        """Start a dead worker again."""
        generation, reason = self._state.reported(number)
        if reason and generation == self._state.wanted().generation:
            raise WorkerError(reason)
        self._deaths += 1
        if self._deaths > _HOPELESS:
            raise WorkerError(
                f"the processes with the model died {self._deaths} times, the last one with "
                f"{_exit(code)}. Another program may need the memory; see the messages above."
            )
        logger.error(f"worker {number} died ({_exit(code)}); starting it again")
        self._end_requests(number)
        self._state.forget(number)
        worker = self._server.launch_single_inference_worker(self._api, number)
        self._server.inference_workers[number] = worker

    def _end_requests(self, worker: int | None = None) -> None:
        """End the requests that a worker was answering; None: all of them."""
        for item in list(self._server.response_buffer.values()):
            # Those that are still in the queue wait for another worker.
            if worker in (None, item.worker_id) and not item.event.is_set():
                item.response = (None, LitAPIStatus.ERROR)
                item.event.set()


def _exit(code: int | None) -> str:
    return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
