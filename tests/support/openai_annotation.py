"""What tests of annotation through chat completions share: a server, a key, settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from abo_vqa.core.config import Config
from tests.support.annotation import configure
from tests.support.servers.openai_chat import OpenAIServer

OPENAI_KEY = "sk-test-key-that-must-never-be-written-00000"
MODEL = "gpt-5-mini"


@pytest.fixture
def openai_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key in the environment."""
    monkeypatch.setenv("OPENAI_API_KEY", OPENAI_KEY)
    monkeypatch.delenv("OPENAI_API_KEYS", raising=False)


@pytest.fixture
def openai_server() -> Iterator[OpenAIServer]:
    with OpenAIServer(delay=0.1, slow=0.2, hang=3) as running:
        yield running


def openai_settings(server: OpenAIServer, **changes: object) -> Config:
    """The configuration of an annotator that asks the server."""
    base = {
        "annotator": "openai", "model": MODEL, "base_url": server.url,
        "key_variable": "OPENAI_API_KEY", "price_input": 0.25, "price_output": 2.0,
    }  # fmt: skip
    return configure(Path.cwd(), **base | changes)
