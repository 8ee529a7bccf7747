"""A request without a schema, or without a system instruction: one word is asked for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from abo_vqa.remote.contract import Request
from abo_vqa.remote.gemini import GeminiClient
from abo_vqa.remote.openai_client import OpenAIClient

SETTINGS: Any = SimpleNamespace(
    model="some-model",
    base_url="http://127.0.0.1:9/v1",
    timeout_s=1,
    temperature=0.0,
    thinking=None,
    safety="default",
    max_output_tokens=10,
)
SCHEMA = {"type": "OBJECT", "properties": {"answer": {"type": "STRING"}}}


@pytest.mark.parametrize("schema", [{}, SCHEMA])
def test_the_form_is_asked_for_with_a_schema_only(schema: dict[str, Any]) -> None:
    request = Request("", "What color is it?", b"jpeg", schema)
    config = GeminiClient("key", SETTINGS).request_config(request)
    assert config.response_mime_type == ("application/json" if schema else None)
    assert (config.response_schema is not None) == bool(schema)
    assert config.system_instruction is None
    body = OpenAIClient("key", SETTINGS).body(request)
    assert ("response_format" in body) == bool(schema)
    assert [message["role"] for message in body["messages"]] == ["user"]
    assert body["messages"][0]["content"][-1] == {"type": "text", "text": "What color is it?"}
