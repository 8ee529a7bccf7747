"""`abo-vqa ui`: browse the recorded runs in MLflow (`make ui`)."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys

from abo_vqa.core.config import load_config
from abo_vqa.core.errors import UserError
from abo_vqa.core.tracking.backend import is_server, prepare, store


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
        print(f"MLFLOW_TRACKING_URI points to a server with its own UI: open {uri}")
        return 0
    _check_free(args.host, args.port)
    prepare(load_config().tracking.experiment)
    host = "127.0.0.1" if args.host in ("0.0.0.0", "::") else args.host
    print(f"open http://{host}:{args.port} (it answers in about 10 s; Ctrl-C ends it)", flush=True)
    # Jobs and more workers are for servers with many users: without them it starts twice as fast.
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    words = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
    words += ["--host", args.host, "--port", str(args.port), "--backend-store-uri", uri]
    words += ["--default-artifact-root", artifacts] if artifacts else []
    return _serve(words, environment)


def _serve(words: list[str], environment: dict[str, str]) -> int:
    """Run the server until it ends or a signal stops it; return the exit code."""
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
    code = server.wait()
    return 0 if stopped else code
