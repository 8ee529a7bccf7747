"""Models behind an address of one's own: the server is asked whether it has them."""

import pytest
import yaml

from abo_vqa.commands.doctor import endpoints, services
from tests.support.servers.openai_chat import MODELS, OpenAIServer


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    for name in ("GEMINI_API_KEY", "GEMINI_API_KEYS", "OPENAI_API_KEY", "OPENAI_API_KEYS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def hosted(checkout):
    """hosted(model="m", base_url=…): the settings of the profile's model of that name."""
    profile = checkout / "conf/profiles/sample.yaml"

    def write(**settings):
        sections = yaml.safe_load(profile.read_text())
        endpoint = {"family": "endpoint", "protocol": "openai"}
        sections["models"]["hosted"] = endpoint | settings
        profile.write_text(yaml.safe_dump(sections))

    return write


@pytest.fixture
def server():
    with OpenAIServer() as running:
        yield running


@pytest.mark.parametrize(("model", "state"), [(MODELS[0], "ok"), (MODELS[0] + "-typo", "warning")])
@pytest.mark.parametrize("role", ["baselines", "verify"])
def test_a_model_that_the_server_doesnt_list(look, hosted, server, model, state, role):
    hosted(model=model, base_url=server.url)
    found = look(endpoints.endpoints, **{role: {"models": ["hosted"]}})["hosted"]
    assert found.state == state
    assert server.url in found.found
    assert MODELS[0] in found.found + found.advice
    assert [call.path for call in server.calls] == ["/v1/models"]


def test_a_model_that_isnt_asked_isnt_checked(look, hosted, server):
    hosted(model="m", base_url=server.url)
    assert look(endpoints.endpoints) == {}
    assert server.calls == []


def test_a_server_that_refuses_or_is_gone(look, hosted, server):
    server.keys = {"another"}
    hosted(model=MODELS[0], base_url=server.url)
    baselines = {"models": ["hosted"]}
    found = look(endpoints.endpoints, baselines=baselines)["hosted"]
    assert (found.state, "HTTP 401" in found.found) == ("problem", True)
    hosted(model=MODELS[0], base_url="http://127.0.0.1:9/v1")
    found = look(endpoints.endpoints, baselines=baselines)["hosted"]
    assert (found.state, "doesn't answer" in found.found) == ("problem", True)


def test_a_server_without_a_list_may_have_any_model(look, hosted, server):
    hosted(model="m", base_url=server.url + "/without")
    found = look(endpoints.endpoints, baselines={"models": ["hosted"]})["hosted"]
    assert found.state == "ok"


@pytest.mark.parametrize("protocol", ["openai", "gemini"])
def test_a_vendors_model_needs_a_key_and_isnt_contacted(look, hosted, monkeypatch, protocol):
    hosted(model="m", protocol=protocol)
    baselines = {"models": ["hosted"]}
    found = look(endpoints.endpoints, baselines=baselines)["hosted"]
    assert found.state == "problem"
    assert f"{protocol.upper()}_API_KEY" in found.found
    monkeypatch.setenv(f"{protocol.upper()}_API_KEY", "a-key-of-mine")
    found = look(endpoints.endpoints, baselines=baselines)["hosted"]
    assert found.state == "ok"
    assert "not contacted" in found.found
    assert "a-key-of-mine" not in str(found)


@pytest.mark.parametrize(("model", "there"), [(MODELS[0], False), ("another", True)])
def test_the_annotators_model_is_compared_too(look, server, model, there):
    generate = {"annotator": "openai", "model": model, "base_url": server.url}
    found = look(endpoints.endpoints, generate=generate)
    assert ("generate.model" in found) == there


def test_a_server_is_asked_once_whatever_asks(look, hosted, server):
    """The annotator's server, its model, and a baseline there: three findings."""
    hosted(model=MODELS[0] + "-typo", base_url=server.url)

    def everything(case):
        yield from services.keys(case)
        yield from endpoints.endpoints(case)

    generate = {"annotator": "openai", "model": "another", "base_url": server.url}
    found = look(everything, generate=generate, baselines={"models": ["hosted"]})
    states = {name: found[name].state for name in ("endpoint", "generate.model", "hosted")}
    assert states == {"endpoint": "ok", "generate.model": "warning", "hosted": "warning"}
    assert [call.path for call in server.calls] == ["/v1/models"]
    server.keys = {"another"}
    found = look(everything, generate=generate, baselines={"models": ["hosted"]})
    assert found["endpoint"].state == found["hosted"].state == "problem"
    assert "generate.key_variable" in found["endpoint"].advice
    assert "generate." not in found["hosted"].advice
    assert len(server.calls) == 2  # another run asks again


def test_an_address_without_v1(look, hosted, server):
    """Something answers there, but nothing lists models."""
    bare = server.url.removesuffix("/v1")
    hosted(model=MODELS[0], base_url=bare)

    def everything(case):
        yield from services.keys(case)
        yield from endpoints.endpoints(case)

    generate = {"annotator": "openai", "model": MODELS[0], "base_url": bare}
    found = look(everything, generate=generate, baselines={"models": ["hosted"]})
    for name in ("endpoint", "hosted"):
        assert found[name].state == "warning"
        assert server.url in found[name].advice
    assert "generate.model" not in found  # the same again
