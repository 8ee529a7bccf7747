"""A model behind an API in a workspace's profile, and what its server was asked."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from abo_vqa.core.config import load_config
from abo_vqa.stages import baseline
from tests.support import workspaces
from tests.support.annotation import KEY
from tests.support.servers.gemini import GeminiServer
from tests.support.servers.gemini_responses import image_in, user_text
from tests.support.servers.openai_chat import OpenAIServer, as_gemini
from tests.support.stages import run_stage

ENDPOINT_MODEL = {"gemini": "gemini-3.5-flash-lite", "openai": "gpt-5-mini"}
ENDPOINT_SERVER = {"gemini": GeminiServer, "openai": OpenAIServer}
HOSTED_PREDICTIONS = Path("reports/baselines/hosted/predictions.csv")


def enter_project(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Enter a project whose services have keys and are asked again soon."""
    monkeypatch.chdir(root)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root.parent}/mlflow.db")
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr("abo_vqa.remote.backoff.FIRST_PAUSE_S", 0.05)
    return root


@pytest.fixture
def hosted_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project, entered, that lacks nothing but the endpoint `hosted`."""
    return enter_project(workspaces.workspace(tmp_path / "work", images=8), monkeypatch)


def answer_hosted() -> None:
    """Ask the model `hosted` all questions, without tracking."""
    run_stage(baseline, load_config(), model="hosted")


def add_endpoint(url: str, protocol: str = "gemini", name: str = "hosted", **settings: Any) -> None:
    """Name a server in the profile of the current folder, as a model."""
    profile = Path("conf/profiles/sample.yaml")
    found = yaml.safe_load(profile.read_text())
    found["models"][name] = {
        "family": "endpoint", "protocol": protocol, "model": ENDPOINT_MODEL.get(protocol),
        "base_url": url, "timeout_s": 2, **settings,
    }  # fmt: skip
    profile.unlink()  # it may be a link to the repository's
    profile.write_text(yaml.safe_dump(found))


def asked(server: GeminiServer) -> Counter[tuple[str, bytes]]:
    """How often each question about each image was sent."""
    bodies = [c.body for c in server.calls if "generateContent" in c.path or "chat" in c.path]
    found = [as_gemini(body) if "messages" in body else body for body in bodies]
    return Counter((user_text(body), image_in(body)) for body in found)
