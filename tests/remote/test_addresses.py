"""Whom a client speaks to: whoever the settings name, whatever the environment does."""

from __future__ import annotations

import pytest

from abo_vqa.remote.gemini import GeminiClient
from abo_vqa.remote.openai_client import OpenAIClient
from tests.support.services import service_settings


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_BASE_URL", "GOOGLE_GEMINI_BASE_URL"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/elsewhere")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-1")


def openai_client(base_url: str | None) -> OpenAIClient:
    return OpenAIClient("key", service_settings(base_url=base_url))


def test_without_an_address_it_is_the_vendor() -> None:
    assert str(openai_client(None).sdk.base_url) == "https://api.openai.com/v1/"
    client = GeminiClient("key", service_settings(protocol="gemini", base_url=None))
    address = client.sdk._api_client._http_options.base_url
    assert str(address).rstrip("/") == "https://generativelanguage.googleapis.com"


def test_only_openai_gets_the_names_of_its_account() -> None:
    assert openai_client(None).sdk.default_headers["OpenAI-Organization"] == "org-1"
    headers = openai_client("http://127.0.0.1:9/v1").sdk.default_headers
    assert not {"org-1", "proj-1"} & {str(value) for value in headers.values()}
