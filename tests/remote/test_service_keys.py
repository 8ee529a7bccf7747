"""Which keys a service is sent."""

from __future__ import annotations

import pytest

from abo_vqa.core.errors import UserError
from abo_vqa.remote.keys import api_keys, key_id
from tests.support.services import service_settings

OPENAI_KEY, GEMINI_KEY = "sk-openai-00000000", "gemini-00000000"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEYS", "GEMINI_API_KEYS", "MINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", OPENAI_KEY)
    monkeypatch.setenv("GEMINI_API_KEY", GEMINI_KEY)


def service(protocol: str, base_url: str | None, key_variable: str | None = None) -> list[str]:
    return api_keys(
        service_settings(protocol=protocol, base_url=base_url, key_variable=key_variable)
    )


@pytest.mark.parametrize(
    "base_url", [None, "https://api.openai.com/v1", "https://eu.api.openai.com/v1"]
)
def test_openai_gets_its_key(base_url: str | None) -> None:
    assert service("openai", base_url) == [OPENAI_KEY]


@pytest.mark.parametrize(
    "base_url",
    [
        "http://localhost:8000/v1",
        "https://openrouter.ai/api/v1",
        "https://api.openai.com.example.org/v1",
        "https://notapi.openai.com/v1",
        "https://example.org/api.openai.com",
        "http://api.openai.com/v1",  # for all on the way to read
    ],
)
def test_no_other_server_gets_it_unasked(base_url: str) -> None:
    assert OPENAI_KEY not in service("openai", base_url)
    assert service("openai", base_url, "OPENAI_API_KEY") == [OPENAI_KEY]
    assert service("openai", base_url, "GEMINI_API_KEY") == [GEMINI_KEY]


def test_a_gateway_to_gemini_gets_geminis_key() -> None:
    assert service("gemini", "https://gateway.example.org") == [GEMINI_KEY]


def test_a_named_variable_may_hold_several_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE", "first-key, second-key,first-key")
    assert service("gemini", None, "MINE") == ["first-key", "second-key"]
    monkeypatch.setenv("MINE", " ")
    with pytest.raises(UserError, match="key_variable names MINE, which isn't set"):
        service("openai", None, "MINE")


def test_where_quotas_and_batch_jobs_of_a_key_are_kept() -> None:
    """Gemini's are as in version 0.2.0: jobs under way then are found."""

    def of(protocol: str, base_url: str | None) -> str:
        return key_id("key", service_settings(protocol=protocol, base_url=base_url))

    assert of("gemini", None) == of("gemini", "https://gateway.example.org") == "ad9352c06348"
    assert of("openai", None) == "ad9352c06348"
    first = of("openai", "http://localhost:8000/v1")
    assert first == of("openai", "http://localhost:8000/v1/")
    assert len({first, of("openai", "http://localhost:8001/v1"), "ad9352c06348"}) == 3


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("sk-schlüssel-000", r"key number 1 in MINE: .*character 8 is 'ü'.*DIAERESIS.*Copy"),
        ("good-000,sk\u2011two", r"number 2 in MINE: .*character 3 .*NON-BREAKING HYPHEN"),
        ("sk-\x7f", r"character 4 is '\\x7f' \(a control character\)"),
    ],
)
def test_a_key_that_cannot_be_sent_is_one_message(
    monkeypatch: pytest.MonkeyPatch, keys: str, message: str
) -> None:
    monkeypatch.setenv("MINE", keys)
    with pytest.raises(UserError, match=message) as caught:
        service("openai", "http://localhost:8000/v1", "MINE")
    assert keys not in str(caught.value)
