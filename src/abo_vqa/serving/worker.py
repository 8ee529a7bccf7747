"""The processes with the models: LitServe's workers, which batch and exchange their weights."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import litserve as ls
from litserve.loops.base import collate_requests
from litserve.loops.simple_loops import BatchedLoop
from litserve.specs.base import LitSpec
from tqdm import tqdm

from abo_vqa.core.errors import AboVqaError, UserError, first_line
from abo_vqa.core.log import get_logger
from abo_vqa.core.stage import pin_threads
from abo_vqa.data.image_inputs import ImageQuestion
from abo_vqa.serving.state import StateFolder, Wanted

if TYPE_CHECKING:
    from abo_vqa.core.config import Config
    from abo_vqa.models.answering.inference import QuestionAnswerer
    from abo_vqa.serving.slots import Slots, Ticket

logger = get_logger(__name__)

INTERNAL_PATH = "/internal"
"""LitServe's name of the queue; no route has it."""
_TICK = 0.25  # seconds between looks at what is wanted, without any request


@dataclass(frozen=True)
class WorkerRequest:
    """A request on its way to a model.

    Attributes:
        ticket: its slot.
        image: the image file's bytes.
        questions: the questions.
        at: when it was sent, on the machine's monotonic clock.
    """

    ticket: Ticket
    image: bytes
    questions: tuple[str, ...]
    at: float


@dataclass(frozen=True)
class WorkerReply:
    """A request on its way back.

    Attributes:
        answers: text, confidence and error of each question.
        source: the model's name and version.
        waited: seconds between sending and the start of its batch.
        batch: how many requests the batch had, in its first request's reply; 0 in the others.
        seconds: how long the batch took.
    """

    answers: tuple[tuple[str, float | None, str], ...]
    source: tuple[str, str]
    waited: float
    batch: int
    seconds: float


@dataclass(frozen=True)
class _Loaded:
    wanted: Wanted
    answerer: QuestionAnswerer | None
    reason: str = ""


class _RoutelessSpec(LitSpec):  # type: ignore[misc]
    """Keeps LitServe from adding routes: the front end has its own."""

    def setup(self, server: ls.LitServer) -> None:
        """Keep nothing of the server.

        A spec is pickled for each worker's process, and the futures of requests that wait can't
        be: a worker that died while others waited couldn't be started again.
        """


class AnsweringAPI(ls.LitAPI):  # type: ignore[misc]
    """A model that answers batches of requests, and is exchanged between two of them.

    Args:
        config: the settings.
        slots: which requests are still waited for.
        state: what is wanted.
    """

    def __init__(self, config: Config, slots: Slots, state: StateFolder) -> None:
        settings = config.serve
        spec = _RoutelessSpec()
        spec.api_path = INTERNAL_PATH
        super().__init__(
            max_batch_size=settings.batch_size,
            batch_timeout=settings.batch_wait_ms / 1000,
            loop=_WatchingLoop(),
            spec=spec,
        )
        self._config, self._slots, self.state = config, slots, state
        self.helper = 0  # the process that keeps LitServe's queues
        self._worker = 0
        self._parent = os.getpid()
        self._changed_at = 0
        self._loading: threading.Thread | None = None
        self._next: _Loaded | None = None

    def setup(self, device: str) -> None:
        """Load the model, in the worker's process.

        Args:
            device: "cpu" or "cuda:0".
        """
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the front end's; it ends this one
        # As in the command line: users can't act on these.
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", category=FutureWarning)
        # tqdm's own lock is a semaphore of the system, which a process that is ended by a signal
        # leaves behind: Python would warn of it.
        tqdm.set_lock(threading.RLock())
        pin_threads(self._config.threads)
        self._worker = int(os.environ["LITSERVE_WORKER_ID"])
        compute = self._config.compute.model_copy(update={"device": device})
        self._config = self._config.model_copy(update={"compute": compute})
        self._changed_at = self.state.changed_at()
        loaded = self._load(self.state.wanted())
        self.state.report(self._worker, loaded.wanted.generation, loaded.reason)
        if loaded.answerer is None:
            raise SystemExit(UserError.exit_code)
        self._answerer, self._source = loaded.answerer, loaded.wanted.source

    def _load(self, wanted: Wanted) -> _Loaded:
        """Load a model; a failure becomes a reason."""
        # Only here: the front end, which imports this module, does without torch.
        from abo_vqa.serving.loading import load_answerer

        try:
            return _Loaded(wanted, load_answerer(wanted.source, self._config))
        except AboVqaError as error:
            return _Loaded(wanted, None, str(error))
        except Exception as error:
            logger.exception("a model can't be loaded")
            return _Loaded(wanted, None, f"{type(error).__name__}: {first_line(error)}")

    def follow(self) -> None:
        """Start to load what is newly wanted, or take over what has been loaded since."""
        if os.getppid() != self._parent:  # killed: it couldn't end its processes
            with suppress(ProcessLookupError):
                os.kill(self.helper, signal.SIGTERM)
            raise SystemExit
        if self._next is not None:
            loaded, self._next, self._loading = self._next, None, None
            if loaded.answerer is not None:
                self._answerer, self._source = loaded.answerer, loaded.wanted.source
            self.state.report(self._worker, loaded.wanted.generation, loaded.reason)
        elif self._loading is None and (at := self.state.changed_at()) != self._changed_at:
            self._changed_at = at
            wanted = self.state.wanted()
            if wanted.source == self._source:
                self.state.report(self._worker, wanted.generation, "")
                return
            self._loading = threading.Thread(target=self._load_next, args=(wanted,), daemon=True)
            self._loading.start()

    def _load_next(self, wanted: Wanted) -> None:
        self._next = self._load(wanted)

    def decode_request(self, request: Any, **_: Any) -> Any:
        """Return the request as it is: images are decoded in the batch, each once."""
        return request

    def batch(self, inputs: list[WorkerRequest]) -> list[WorkerRequest]:
        """Return the requests as they are."""
        return inputs

    def predict(self, batch: list[WorkerRequest]) -> list[WorkerReply]:
        """Answer a batch of requests.

        Args:
            batch: the requests.

        Returns:
            Their replies; those that nobody waits for any more have no answers.
        """
        start = time.monotonic()
        waiting = [self._slots.is_waiting(request.ticket) for request in batch]
        asked = [
            ImageQuestion(request.image, question)
            for request, wanted in zip(batch, waiting, strict=True)
            if wanted
            for question in request.questions
        ]
        answers = iter(self._answerer.answer(asked))
        seconds = time.monotonic() - start
        replies = []
        counted = sum(waiting)
        for request, wanted in zip(batch, waiting, strict=True):
            given = [next(answers) for _ in request.questions] if wanted else []
            texts = tuple((answer.text, answer.confidence, answer.error) for answer in given)
            source = (self._source.name, self._source.version)
            replies.append(
                WorkerReply(texts, source, start - request.at, counted * wanted, seconds)
            )
            counted = 0 if wanted else counted
        return replies

    def unbatch(self, output: list[WorkerReply]) -> list[WorkerReply]:
        """Return the replies as they are."""
        return output

    def encode_response(self, output: WorkerReply, **_: Any) -> WorkerReply:
        """Return the reply as it is."""
        return output


class _WatchingLoop(BatchedLoop):  # type: ignore[misc]
    """LitServe's loop with batches, but asleep while nothing comes, and watching what is wanted."""

    def get_batch_requests(self, lit_api: Any, request_queue: Any, transport: Any) -> Any:
        """Wait for a request, and return it with those that come soon after it."""
        try:
            first = self.get_request(request_queue, timeout=_TICK)
            lit_api.follow()
            if first is None:
                return [], []
            return collate_requests(self, lit_api, _Refilled(first, request_queue), transport)
        except (EOFError, ConnectionError) as error:  # the front end has gone
            raise SystemExit from error


class _Refilled:
    """A queue from which one entry has been taken, which comes first again."""

    def __init__(self, first: Any, queue: Any) -> None:
        self._first: Any = first
        self._queue = queue

    def get_nowait(self) -> Any:
        """Take an entry, or raise `Empty`."""
        return self.get(timeout=0)

    def get(self, timeout: float) -> Any:
        """Take an entry, or raise `Empty` after a while."""
        if self._first is not None:
            first, self._first = self._first, None
            return first
        return self._queue.get(timeout=timeout) if timeout else self._queue.get_nowait()
