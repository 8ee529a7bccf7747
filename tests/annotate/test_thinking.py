"""How much a model thinks: what is sent, and levels that a model doesn't know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from abo_vqa.core.config import load_config
from abo_vqa.core.errors import UserError
from abo_vqa.remote.gemini import _base_config
from abo_vqa.stages.generate import run
from tests.support.annotation import configure, make, vqa, write_params
from tests.support.openai_annotation import openai_settings
from tests.support.servers.openai_chat import OpenAIServer

OLLAMA = (
    "invalid reasoning value: 'minimal' (must be \"high\", \"medium\", \"low\", \"max\", or "
    '"none")'
)  # fmt: skip


@pytest.fixture
def server(openai_server: OpenAIServer) -> OpenAIServer:
    openai_server.efforts = ("none", "low", "medium", "high", "max")
    openai_server.wordings["reasoning_effort"] = OLLAMA
    return openai_server


@pytest.mark.usefixtures("quick_retries", "openai_key")
@pytest.mark.parametrize("options", [{}, {"batch": True, "batch_images": 2}])
def test_a_level_that_the_model_does_not_know_stops_the_run(
    here: Path, server: OpenAIServer, options: dict[str, Any]
) -> None:
    make(here, 8)
    with pytest.raises(UserError) as error:
        run(openai_settings(server, thinking="minimal", **options))
    assert "'gpt-5-mini' doesn't take generate.thinking: minimal." in str(error.value)
    assert OLLAMA in str(error.value), "nothing says what is allowed"
    assert len(server.generated()) == (0 if options else 1)
    run(openai_settings(server, thinking="none", **options))
    assert len(vqa(here)) == 24  # no image was dropped because of it
    if not options:
        assert server.generated()[-1].body["reasoning_effort"] == "none"


@pytest.mark.parametrize("level", ["none", "minimal", "low", "medium", "high", "xhigh"])
def test_levels_of_gemini(here: Path, level: str) -> None:
    make(here, 1)
    sent = _base_config(configure(here, annotator="gemini", thinking=level).generate)
    assert sent.thinking_config
    if level == "none":
        assert sent.thinking_config.thinking_budget == 0
    else:
        assert str(sent.thinking_config.thinking_level).endswith(level.upper())


def test_a_level_that_no_gemini_has(here: Path) -> None:
    make(here, 1)
    write_params(here, annotator="gemini", thinking="max")
    with pytest.raises(UserError, match="gemini has no level max"):
        load_config()
    write_params(here, annotator="openai", thinking="max")
    assert load_config().generate.thinking == "max"


@pytest.mark.usefixtures("quick_retries", "openai_key")
def test_gemma_behind_googles_endpoint(here: Path, openai_server: OpenAIServer) -> None:
    """It has neither JSON mode nor a system role."""
    make(here, 5)
    names = {"json_schema": "JSON mode", "json_object": "JSON mode", "system": "Developer role"}
    openai_server.refuses = tuple(names)
    openai_server.wordings = {k: f"{v} is not enabled for gemma-3" for k, v in names.items()}
    run(openai_settings(openai_server, concurrency=1))
    assert len(vqa(here)) == 15
    [turn] = openai_server.generated()[-1].body["messages"]
    assert turn["role"] == "user"
    assert "Write exactly" in turn["content"][-1]["text"], "the instructions are lost"
    assert len(openai_server.generated()) == 5 + len(names)
