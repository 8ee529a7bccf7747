"""`abo-vqa serve` as a process, as somebody would start it."""

import base64
import io
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import requests
import yaml
from PIL import Image

from tests.support import ROOT
from tests.support.adapters import adapter_for
from tests.support.workspaces import workspace

TARGETS = ["query", "value"]
ADMIN = "admin-key-0123456789"


def served_project(root: Path, **settings: Any) -> Path:
    """A project with a tiny BLIP, an adapter for it, and settings of the server."""
    workspace(root, "blip", images=4)
    adapter_for(root / "models/blip", root / "models/adapter", TARGETS)
    config = root / "models/adapter/adapter_config.json"
    config.write_text(config.read_text().replace(str(root) + "/", ""))
    set_serving(root, **settings)
    return root


def set_serving(root: Path, **settings: Any) -> None:
    """Change settings of the section `serve`."""
    params = root / "params.yaml"
    values = yaml.safe_load(params.read_text())
    values["serve"] |= settings
    params.write_text(yaml.safe_dump(values))


class ServerProcess:
    """A running server.

    Args:
        root: the project's folder.
        words: further options.
        wait: until it is ready.
        environment: further variables.
    """

    def __init__(self, root: Path, *words: str, wait: bool = True, **environment: str) -> None:
        self.log = root / f"serve-{time.monotonic_ns()}.log"
        variables = {**os.environ, "PYTHONPATH": str(ROOT / "src"), **environment}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "abo_vqa", "serve", "--port", "0", *words],
                cwd=root, env=variables, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self.url = self.wait_for(r"(http://\S+): " + ("ready" if wait else "loading"))

    def wait_for(self, pattern: str, seconds: float = 120) -> str:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if match := re.search(pattern, self.log.read_text()):
                return match[1] if match.groups() else match[0]
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise AssertionError(f"no {pattern!r} in:\n{self.log.read_text()}")

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def ask(self, image: bytes | str, *questions: Any, **options: Any) -> requests.Response:
        text = image if isinstance(image, str) else base64.b64encode(image).decode()
        body = {"image": text, "questions": list(questions)}
        return requests.post(f"{self.url}/v1/answers", json=body, timeout=60, **options)

    def get(self, path: str, **options: Any) -> requests.Response:
        return requests.get(f"{self.url}{path}", timeout=60, **options)

    def metric(self, name: str) -> float:
        """A counter's or gauge's value, over all labels."""
        lines = self.get("/metrics").text.splitlines()
        pattern = re.compile(rf"abo_vqa_{name}(?:{{[^}}]*}})? (\S+)")
        return sum(float(m[1]) for line in lines if (m := pattern.fullmatch(line)))

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def stop(self) -> int:
        """Ask it to end, and return its exit code."""
        self.signal(signal.SIGTERM)
        return self.process.wait(60)

    def __enter__(self) -> "ServerProcess":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()


def image_bytes(size: tuple[int, int] = (48, 48), mode: str = "RGB", form: str = "PNG") -> bytes:
    """An image file."""
    file = io.BytesIO()
    Image.new(mode, size, 0 if mode == "L" else (200, 30, 30, 0)[: len(mode)]).save(file, form)
    return file.getvalue()
