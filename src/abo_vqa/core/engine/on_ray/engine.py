"""The engine that `compute.engine: ray` names: a connection to a cluster."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import ray

from abo_vqa.core.engine.on_ray.dealer import RayWorkers, actor_options
from abo_vqa.core.engine.work import ONE_CORE, Engine, Needs, Work, Workers
from abo_vqa.core.errors import UserError, first_line

_CONNECT_S = 10.0  # until a cluster's head answers

_Batch = TypeVar("_Batch")
_Result = TypeVar("_Result")


class RayEngine(Engine):
    """Deals batches to workers on a Ray cluster.

    Args:
        workers: how many; None for as many as the cluster has room for.
        threads: of each worker; see `stage.pin_threads`.

    Raises:
        UserError: the cluster can't be reached.
    """

    def __init__(self, workers: int | None, threads: int) -> None:
        self._workers, self._threads = workers, threads
        self._joined = ray.is_initialized()  # by a caller, who ends it, too
        if not self._joined:
            _connect()

    def close(self) -> None:
        """Leave the cluster; one that was started for this process ends."""
        if not self._joined:
            ray.shutdown()

    def workers(
        self, make: Callable[[], Work[_Batch, _Result]], needs: Needs = ONE_CORE
    ) -> Workers[_Batch, _Result]:
        """Return workers on the cluster; see `Engine.workers`."""
        return RayWorkers(make, needs, self._workers, self._threads)

    def room(self, needs: Needs = ONE_CORE) -> int:
        """Return how many workers the cluster's machines have room for; see `Engine.room`."""
        return actor_options(needs)[1]


def _connect() -> None:
    """Join the cluster at RAY_ADDRESS, or start one on this machine.

    Without an address Ray would also join a cluster that runs here already: another command's,
    perhaps, which ends with it.

    Raises:
        UserError: it can't be reached.
    """
    address = os.environ.get("RAY_ADDRESS", "")
    if address.startswith("ray://"):
        raise UserError(
            f"RAY_ADDRESS is {address}, for Ray's client outside a cluster, which can't pass on "
            "results as they come. Run the stage on one of the cluster's machines, e.g. with "
            "`ray job submit`, where RAY_ADDRESS=auto is enough."
        )
    _require_listener(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # sends nothing to anybody
    source = str(Path(__file__).parents[4])
    paths = [source, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    variables = {"PYTHONPATH": os.pathsep.join(paths), "TOKENIZERS_PARALLELISM": "false"}
    # Processes that a cluster starts ahead of time have its own environment: a new one has ours.
    own = not address or address == "local"
    try:
        with _own_signal_handlers(), _environment(variables if own else {}):
            ray.init(
                address=address or "local",
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.CRITICAL,
                runtime_env=None if own else {"env_vars": variables},
            )
    except Exception as error:  # Ray raises this very class if its head doesn't start in time
        raise _unreachable(address, error) from error


def _require_listener(address: str) -> None:
    """Check that something answers at an address: Ray waits for a minute and ends the process.

    Raises:
        UserError: nothing does.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal():
        return  # auto, local
    try:
        socket.create_connection((host, int(port)), _CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address, error) from error


def _unreachable(address: str, error: BaseException) -> UserError:
    place = f"the Ray cluster at RAY_ADDRESS={address}" if address else "a Ray cluster here"
    return UserError(
        f"can't reach {place}: {first_line(error)}. Check `ray status`; a cluster that asks for a "
        "token wants RAY_AUTH_TOKEN as on its head. Without RAY_ADDRESS a cluster of this machine "
        "is started, and compute.engine=local needs none."
    )


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Have other variables while a cluster is started."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _own_signal_handlers() -> Iterator[None]:
    """Keep this process's handlers, which `ray.init` replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
