"""Servers of chat completions at a wrong address, or without their key: what is blamed first."""

from __future__ import annotations

from pathlib import Path

import pytest

from abo_vqa.core.errors import UserError
from abo_vqa.remote.dispatch.stop_reasons import names_model
from abo_vqa.stages.generate import run
from tests.support.annotation import make
from tests.support.openai_annotation import OPENAI_KEY, openai_settings
from tests.support.servers.openai_chat import OpenAIServer

pytestmark = pytest.mark.usefixtures("quick_retries", "openai_key")


@pytest.fixture
def server(openai_server: OpenAIServer) -> OpenAIServer:
    return openai_server


def test_an_address_without_v1_is_blamed_before_the_model(here: Path, server: OpenAIServer) -> None:
    make(here, 2)
    bare = server.url.removesuffix("/v1")
    with pytest.raises(UserError) as caught:
        run(openai_settings(server, base_url=bare))
    message = str(caught.value)
    assert message.startswith(f"generate.base_url: the server at {bare} ")
    assert f"Set it in params.yaml to {server.url}: for most" in message
    assert "doesn't exist or is retired" not in message
    with pytest.raises(UserError, match=r"^generate.model: 'gpt-0' doesn't exist"):
        run(openai_settings(server, model="gpt-0"))


def test_a_server_that_wants_a_key(here: Path, server: OpenAIServer) -> None:
    """The stand-in for a key, which the user never wrote, doesn't come first."""
    make(here, 2)
    server.keys = {"another"}
    with pytest.raises(UserError) as caught:
        run(openai_settings(server, key_variable=None))
    message = str(caught.value)
    assert message.startswith(f"the server at {server.url} wants a key, and none was sent.")
    assert "none-needed (sent in place of a key)" in message
    with pytest.raises(UserError, match=r"^no usable API key"):
        run(openai_settings(server))
    assert OPENAI_KEY not in message


@pytest.mark.parametrize(
    ("message", "blamed"),
    [
        ("HTTP 404 model_not_found: no such thing", True),  # OpenAI
        ("HTTP 404 NotFoundError: The model `qwen` does not exist", True),  # vLLM
        ("HTTP 404 not_found_error: model 'qwen' not found", True),  # Ollama
        ("HTTP 404 DeploymentNotFound: The API deployment doesn't exist", True),  # Azure
        ("HTTP 404 NOT_FOUND: models/qwen is not found for API version v1beta", True),  # Google
        ("HTTP 404: Cannot POST /v1beta/models/qwen:generateContent", False),  # a gateway
        ("HTTP 404: no /chat/completions", False),
        ("Unexpected endpoint or method. (POST /chat/completions)", False),  # LM Studio
    ],
)
def test_what_names_the_model(message: str, blamed: bool) -> None:
    assert names_model(message, "qwen") == blamed
