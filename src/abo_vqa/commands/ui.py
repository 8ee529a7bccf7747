"""`abo-vqa ui`: browse the recorded runs in MLflow (`make ui`)."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing

from abo_vqa.core.errors import AboVqaError, UserError
from abo_vqa.core.tracking.addresses import is_server, mask_login, sqlite_file, store
from abo_vqa.core.tracking.browsing import (
    DIRECT,
    experiment_name,
    local_runs_url,
    server_runs_url,
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options.

    Args:
        parser: the command's parser.
    """
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0: for other machines as well")
    parser.add_argument("--port", type=int, default=5000)


def _check_free(host: str, port: int) -> None:
    """Raises UserError if nothing can listen at an address."""
    if not 0 < port < 65536:
        raise UserError(f"--port: found {port}, must be from 1 to 65535.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((host, port))
        except OSError as error:
            raise UserError(
                f"can't listen at {host}:{port} ({error.strerror or error}). Another program has "
                f"the port (on macOS, AirPlay has 5000), or the host isn't this machine's. Choose "
                f"another: make ui PORT={port + 1}, or abo-vqa ui --port {port + 1}."
            ) from error


def command(args: argparse.Namespace) -> int:
    """Run MLflow's browser until Ctrl-C, or say which server to open.

    Args:
        args: the options.

    Returns:
        The exit code.
    """
    uri, artifacts = store()
    if is_server(uri):
        from abo_vqa.core.tracking.store_checks import check_store

        check_store(uri)
        url = server_runs_url(uri, experiment_name())
        print(f"MLFLOW_TRACKING_URI points to a server with its own UI: open {url}")
        return 0
    began = time.monotonic()
    _check_free(args.host, args.port)
    if not (usable := _has_tables(uri)):
        _prepare()
    host = "127.0.0.1" if args.host in ("0.0.0.0", "::") else args.host
    address = f"http://[{host}]:{args.port}" if ":" in host else f"http://{host}:{args.port}"
    print(f"starting MLflow at {address}, which shows {mask_login(uri)} …", flush=True)
    # Jobs and more workers are for servers with many users: without them it starts twice as fast.
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    # Not as an option: everybody on the machine may read a command line, and its password.
    environment["MLFLOW_BACKEND_STORE_URI"] = uri
    words = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
    words += ["--host", args.host, "--port", str(args.port)]
    words += ["--default-artifact-root", artifacts] if artifacts else []
    threads = [threading.Thread(target=_announce, args=(address, began), daemon=True)]
    if usable:  # the server starts in the meantime
        threads.append(threading.Thread(target=_mend, daemon=True))
    return _serve(words, environment, threads)


def _has_tables(uri: str) -> bool:
    """Tell whether the address is a file's that MLflow has created its tables in."""
    file = sqlite_file(uri)
    if file is None or not file.is_file():
        return False
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as database:
            database.execute("SELECT count(*) FROM experiments").fetchone()
    except sqlite3.Error:
        return False
    return os.access(file, os.W_OK)


def _prepare() -> None:
    """Create what is missing, and point to the artifacts after a move."""
    from abo_vqa.core.config import load_config
    from abo_vqa.core.tracking.experiment import prepare

    prepare(load_config().tracking.experiment)


def _mend() -> None:
    """Do the same beside a server that can do without."""
    try:
        _prepare()
    except AboVqaError as error:
        print(error, file=sys.stderr, flush=True)


def _announce(address: str, began: float) -> None:
    """Print that the server answers, as soon as it does, and where the runs are."""
    experiment = experiment_name()  # while the server starts
    while True:
        try:
            DIRECT.open(f"{address}/health", timeout=2).close()
        except OSError:
            time.sleep(0.1)
        else:
            seconds = time.monotonic() - began
            url = local_runs_url(address, experiment)
            print(f"ready in {seconds:.1f} s: open {url} (Ctrl-C ends it)", flush=True)
            return


def _serve(words: list[str], environment: dict[str, str], threads: list[threading.Thread]) -> int:
    """Run the server until it ends or a signal stops it, and threads beside it.

    Returns:
        The exit code.
    """
    server: subprocess.Popen[bytes] | None = None
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True
        if server is not None:
            server.terminate()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    # In a session of its own: Ctrl-C in the terminal would reach each of its parts, and each would
    # print a traceback.
    server = subprocess.Popen(words, env=environment, start_new_session=True)
    if stopped:
        server.terminate()
    for thread in threads:
        thread.start()
    code = server.wait()
    return 0 if stopped else code
