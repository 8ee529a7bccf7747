"""A request without a schema, or without a system instruction: one word is asked for."""

from __future__ import annotations

from typing import Any

import pytest

from abo_vqa.remote.contract import Request
from abo_vqa.remote.gemini import GeminiClient
from abo_vqa.remote.openai_client import OpenAIClient
from tests.support.services import service_settings

SCHEMA = {"type": "OBJECT", "properties": {"answer": {"type": "STRING"}}}


@pytest.mark.parametrize("schema", [{}, SCHEMA])
def test_the_form_is_asked_for_with_a_schema_only(schema: dict[str, Any]) -> None:
    request = Request("", "What color is it?", b"jpeg", schema)
    config = GeminiClient("key", service_settings()).request_config(request)
    assert config.response_mime_type == ("application/json" if schema else None)
    assert (config.response_schema is not None) == bool(schema)
    assert config.system_instruction is None
    body = OpenAIClient("key", service_settings()).body(request)
    assert ("response_format" in body) == bool(schema)
    assert [message["role"] for message in body["messages"]] == ["user"]
    assert body["messages"][0]["content"][-1] == {"type": "text", "text": "What color is it?"}
