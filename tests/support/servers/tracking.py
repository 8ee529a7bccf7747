"""A real `mlflow server`, with the command line and the environment of docker-compose.yml."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

import yaml

from tests.support import ROOT
from tests.support.servers.ports import free_port

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
DATABASE = "mlflow@postgres:5432/mlflow"  # in the compose file's address
DIRECT = build_opener(ProxyHandler({}))


def compose_command(**changed: object) -> list[str]:
    """The command of the service `mlflow`, with other values of options that it has."""
    words = list(COMPOSE["mlflow"]["command"])
    for name, value in changed.items():
        option = f"--{name.replace('_', '-')}="
        (at,) = [i for i, word in enumerate(words) if word.startswith(option)]
        words[at] = f"{option}{value}"
    return words


def compose_environment(password: str, database: str) -> dict[str, str]:
    """The environment of the service `mlflow`, with another database behind the same scheme."""
    filled = {}
    for name, value in COMPOSE["mlflow"]["environment"].items():
        if value.startswith("${POSTGRES_PASSWORD:?"):
            value = password
        elif value.startswith("${"):
            value = value.removesuffix("}").partition(":-")[2]
        filled[name] = value
    address = filled["MLFLOW_BACKEND_STORE_URI"]
    assert DATABASE in address
    filled["MLFLOW_BACKEND_STORE_URI"] = address.partition("://")[0] + "://" + database
    return filled


class TrackingServer:
    """The server as a process that can be killed, stopped and started again on its port."""

    def __init__(self, folder: Path, environment: Mapping[str, str], *options: str) -> None:
        self.folder, self.options, self.environment = folder, options, environment
        self.port = free_port()
        self.artifacts = folder / "artifacts"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        program, *words = compose_command(
            host="127.0.0.1", port=self.port, workers=1, artifacts_destination=self.artifacts
        )
        assert program == "mlflow"
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")
        }
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", program, *words, *self.options],
                env={**environment, **self.environment},
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        for _ in range(1200):
            if self.process.poll() is not None:
                raise RuntimeError((self.folder / "server.log").read_text()[-3000:])
            try:
                DIRECT.open(f"{self.url}/health", timeout=5).close()
                return
            except HTTPError:
                return
            except OSError:
                time.sleep(0.1)
        raise RuntimeError("the server isn't ready")

    def signal(self, number: int) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None:
            self.signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def __enter__(self) -> TrackingServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
