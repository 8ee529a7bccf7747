"""The page alone, as a process: `python -m tests.support.page_server PORT [MODEL …]`.

Connections to other machines are refused and written to the file that `CONNECTIONS` names.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from abo_vqa.core.config import load_config
from abo_vqa.serving.page.mounting import mount_page

LOCAL = ("127.", "::1", "localhost", "0.0.0.0", "/")


def refuse_connections(file: Path) -> None:
    """Let this process connect to this machine only."""

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in ("socket.connect", "socket.getaddrinfo"):
            return
        target = arguments[1] if event == "socket.connect" else arguments
        host = target[0] if isinstance(target, tuple) else target
        if not str(host).startswith(LOCAL):
            with file.open("a") as log:
                log.write(f"{event} {target}\n")
            raise OSError(f"no connections to {host} in tests")

    sys.addaudithook(audit)


def application(models: list[str]) -> FastAPI:
    app = FastAPI()
    mount_page(app, load_config(), models=models or None)
    return app


if __name__ == "__main__":
    socket.setdefaulttimeout(60)
    if target := os.environ.get("CONNECTIONS"):
        refuse_connections(Path(target))
    uvicorn.run(
        application(sys.argv[2:]),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        timeout_graceful_shutdown=1,
    )
