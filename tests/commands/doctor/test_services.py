"""Keys: counted, never shown; and services that don't answer: never waited for."""

import threading
import time

import pytest

from abo_vqa.commands.doctor import services
from abo_vqa.core.errors import UserError
from abo_vqa.remote.keys import NO_KEY
from tests.support.servers.openai_chat import OpenAIServer


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    for name in (
        "GEMINI_API_KEY",
        "GEMINI_API_KEYS",
        "OPENAI_API_KEY",
        "OPENAI_API_KEYS",
        *services.OPTIONAL,
    ):
        monkeypatch.delenv(name, raising=False)


# ---- keys


def test_the_sample_needs_no_key(look):
    found = look(services.keys)
    assert found["api key"].state == "ok"
    assert "needs none" in found["api key"].found


def test_an_annotator_that_needs_a_key_lacks_it(look):
    found = look(services.keys, generate={"annotator": "gemini"})["api key"]
    assert found.state == "problem"
    assert "GEMINI_API_KEY" in found.advice


def test_keys_are_counted_and_not_shown(look, monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEYS", "first-key, second-key")
    monkeypatch.setenv("HF_TOKEN", "hub-token")
    found = look(services.keys, generate={"annotator": "gemini"})
    assert found["api key"].state == "ok"
    assert found["api key"].found == "2 in GEMINI_API_KEYS"
    assert found["environment"].found.startswith("set: HF_TOKEN (of")
    assert "first-key" not in str(found)
    assert "hub-token" not in str(found)


def test_a_server_of_ones_own_is_asked(look, monkeypatch):
    def ask(url, **settings):
        base = {"annotator": "openai", "model": "m", "base_url": url, "key_variable": None}
        return look(services.keys, generate=base | settings)

    monkeypatch.setenv("OPENAI_API_KEY", "sk-for-openai-alone-0000")
    with OpenAIServer() as server:
        found = ask(server.url)
        assert "none is sent" in found["api key"].found
        assert found["endpoint"].state == "ok"
        assert [call.key for call in server.calls] == [NO_KEY]
        found = ask(server.url, key_variable="MY_SERVER")
        assert found["api key"].state == "problem"
        assert "MY_SERVER isn't set" in found["api key"].found
        monkeypatch.setenv("MY_SERVER", "sk-my-own-key-000000")
        found = ask(server.url, key_variable="MY_SERVER")
        assert found["api key"].found == "1 in MY_SERVER"
        assert found["endpoint"].state == "ok"
        assert server.calls[-1].key == "sk-my-own-key-000000"
        server.keys = {"another"}
        assert "generate.key_variable" in ask(server.url)["endpoint"].advice
        found = ask(server.url, key_variable="MY_SERVER")
        assert found["endpoint"].state == "problem"
        assert "Check MY_SERVER" in found["endpoint"].advice
        assert "my-own-key" not in str(found)
    found = ask(server.url)["endpoint"]
    assert found.state == "problem"
    assert "generate.base_url" in found.advice


def test_what_ignores_its_own_limit_is_left_all_the_same():
    never = threading.Event()
    began = time.monotonic()
    with pytest.raises(UserError, match="no answer"):
        services.call_with_timeout(0.2, never.wait)
    never.set()
    assert time.monotonic() - began < 30
