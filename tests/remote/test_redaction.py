"""API keys in messages: hidden where messages are printed, and no hindrance to reading them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from google.genai.errors import ClientError

from abo_vqa.remote.errors import DailyQuotaError, ServiceError
from abo_vqa.remote.gemini import GeminiClient
from abo_vqa.remote.keys import redact
from abo_vqa.remote.openai_client import OpenAIClient
from tests.support.services import service_settings

KEY = "free-models-per-day"  # what a message needs to be understood
MESSAGE = f"Rate limit exceeded: {KEY}."


def test_longer_keys_are_hidden_before_those_that_they_begin_with() -> None:
    assert redact("secret-a secret-ab", ["secret-a", "secret-ab"]) == "<api key> <api key>"


@pytest.mark.parametrize("key", ["x", "e", "EMPTY", "key", "1234567"])
def test_short_keys_are_no_secrets(key: str) -> None:
    message = "EMPTY: the next key exceeds 1234567 bytes"
    assert redact(message, [key]) == message


def openai_error() -> ServiceError:
    completion = SimpleNamespace(error={"code": 429, "message": MESSAGE})
    with pytest.raises(ServiceError) as caught:
        OpenAIClient(KEY, service_settings()).to_reply(completion)
    return caught.value


def gemini_error() -> ServiceError:
    return GeminiClient(KEY, service_settings()).translate(ClientError(429, {"message": MESSAGE}))


@pytest.mark.parametrize("error", [openai_error, gemini_error])
def test_errors_are_understood_by_the_original_message(error: Any) -> None:
    found = error()
    assert isinstance(found, DailyQuotaError)
    assert "Rate limit exceeded: <api key>" in str(found)
    assert KEY not in str(found)
