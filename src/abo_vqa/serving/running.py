"""How the server starts and stops: signals, the listening socket, the workers' processes."""

from __future__ import annotations

import asyncio
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from litserve.utils import wrap_litserve_start

from abo_vqa.core.errors import UserError
from abo_vqa.core.log import get_logger
from abo_vqa.serving.guard import http_protocol
from abo_vqa.serving.pool import WorkerError
from abo_vqa.serving.problems import ProblemError
from abo_vqa.serving.reloading import Reloader
from abo_vqa.serving.routes import PATHS, ServerParts
from abo_vqa.serving.server import AnsweringServer

logger = get_logger(__name__)

_GRACE_S = 5.0  # beyond the longest request, when stopping
_PAGE_GRACE_S = 3.0  # for the page, whose streams end only when a browser closes it


class _FrontEnd(uvicorn.Server):  # type: ignore[misc]
    """uvicorn's server, which leaves signals to `_run`, and can close a page's connections."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def close_page(self) -> None:
        """Close the connections with requests that aren't for the API."""
        for connection in list(self.server_state.connections):
            cycle = connection.cycle
            if cycle is not None and cycle.scope["path"] not in PATHS:
                connection.transport.abort()


def run_server(
    server: AnsweringServer,
    host: str,
    port: int,
    mount: Callable[[FastAPI], None] | None = None,
) -> None:
    """Serve until SIGTERM or Ctrl-C; accepted requests are answered before it returns.

    Args:
        server: the server.
        host: the address to listen at.
        port: the port; 0 chooses a free one.
        mount: adds a page to the application.

    Raises:
        UserError: nothing can listen there.
        WorkerError: the model can't be loaded, or its processes die again and again.
    """
    with _listen(host, port) as listener, _workers(server):
        if mount is not None:
            mount(server.app)
        asyncio.run(_run(server, listener))


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that is bound; uvicorn listens.

    Raises:
        UserError: nothing can listen there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise UserError(
            f"can't listen at {host}:{port} ({error}). Another program has the port, or the host "
            "isn't this machine's. Choose another with --port or --host."
        ) from error
    return listener


@contextmanager
def _workers(server: AnsweringServer) -> Iterator[None]:
    """Start the processes with the models, and end them."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # children inherit it: see `setup`
    failure: WorkerError | None = None
    try:
        with wrap_litserve_start(server.lit):
            signal.signal(signal.SIGINT, before)
            try:
                yield
            except WorkerError as error:
                failure = error
    except (OSError, EOFError):  # the process with the queues is gone: LitServe can't say goodbye
        if failure is None:
            raise
        for worker in server.lit.inference_workers:
            worker.kill()
    finally:
        signal.signal(signal.SIGINT, before)
    if failure is not None:
        raise failure


async def _run(server: AnsweringServer, listener: socket.socket) -> None:
    """Run the front end until a signal, or until the workers are past help."""
    parts = server.parts
    settings = parts.settings
    front = _FrontEnd(
        uvicorn.Config(
            server.app,
            http=http_protocol(settings.upload_timeout_s),
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=max(128, 2 * settings.capacity),
            timeout_graceful_shutdown=int(
                settings.timeout_s + settings.upload_timeout_s + _GRACE_S
            ),
        )
    )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    tasks: set[asyncio.Task[Any]] = set()

    def reload() -> None:
        task = loop.create_task(_reload(parts.reloader))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    loop.add_signal_handler(signal.SIGHUP, reload)
    watching = loop.create_task(parts.pool.watch())
    announcing = loop.create_task(_announce(server, listener))
    stopping = loop.create_task(_stop(front, parts, stop))
    watching.add_done_callback(lambda _: stop.set())
    await front.serve(sockets=[listener])
    for task in (announcing, stopping):
        task.cancel()
    logger.info(f"stopped; {parts.metrics.tally}")
    if watching.done():
        watching.result()
    watching.cancel()


async def _announce(server: AnsweringServer, listener: socket.socket) -> None:
    """Say where the server is, and when it is ready."""
    host, port = listener.getsockname()[:2]
    source = server.parts.reloader.source
    address = _address(host, port)
    logger.info(f"{address}: loading {source.name} ({source.version})")
    while not server.parts.pool.is_ready():
        await asyncio.sleep(0.1)
    workers = server.parts.pool.worker_count
    logger.info(f"{address}: ready, {workers} process(es) with the model")
    # No browser opens the address that stands for all of this machine's.
    here = _address({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port)
    for page in server.pages:
        logger.info(f"try the models in a browser: {here}{page}")


def _address(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def _stop(front: _FrontEnd, parts: ServerParts, stop: asyncio.Event) -> None:
    """Wait for a signal; then take no more requests, and end once the accepted are answered."""
    await stop.wait()
    parts.pool.draining = True
    waiting = parts.pool.slots.used
    logger.info(f"stopping; {waiting} request(s) are being answered")
    await asyncio.sleep(parts.settings.drain_s)
    front.should_exit = True
    await asyncio.sleep(_PAGE_GRACE_S)
    front.close_page()


async def _reload(reloader: Reloader) -> None:
    """Reload after SIGHUP; what goes wrong is in the log."""
    try:
        await reloader.reload()
    except ProblemError:
        return


@contextmanager
def temporary_state() -> Iterator[Path]:
    """Make the folder of a server's state, and remove it."""
    with tempfile.TemporaryDirectory(prefix="abo-vqa-serve-") as folder:
        yield Path(folder)
