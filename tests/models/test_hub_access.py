"""The hub out of reach, downloads with their size and progress, disks that are too small."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.model_loads import ModelLoads
from tests.support.servers.model_hub import TOKEN, ModelHub
from tests.support.servers.ports import free_port
from tests.support.vlms import save_paligemma


@pytest.fixture(scope="module")
def process(tmp_path_factory) -> Iterator[ModelLoads]:
    """What loads models from the hub's only address, where nothing listens yet."""
    port = free_port()
    loads = ModelLoads(f"http://127.0.0.1:{port}", tmp_path_factory.mktemp("loads"))
    yield loads
    loads.close()


@pytest.fixture
def loads(process: ModelLoads) -> ModelLoads:
    process.empty_cache()
    return process


@contextmanager
def hub_at(loads: ModelLoads, *args, **options) -> Iterator[ModelHub]:
    """A hub at the address that `loads` asks."""
    hub = ModelHub(*args, **options, port=loads.port)
    try:
        yield hub
    finally:
        hub.close()


def test_what_is_cached_loads_without_the_hub(folders, loads) -> None:
    """With the hub gone, its library alone would try again for minutes."""
    with hub_at(loads, {"org/model": folders["vilt"]}):
        first = loads.load("vilt")
    assert first.stdout.split() == ["loaded"], first.stderr
    assert "GB of weights will be downloaded" in first.stderr
    second = loads.load("vilt")
    assert second.stdout.split() == ["loaded"], second.stderr
    assert "can't be reached: using what is in its cache" in second.stderr
    assert "Retrying" not in second.stderr


def test_a_hub_that_never_answers_is_given_up(loads) -> None:
    """A firewall that swallows everything: connections are made and nothing comes."""
    with socket.create_server(("127.0.0.1", loads.port)):
        began = time.monotonic()
        found = loads.load("vilt")
    assert found.returncode == 2, found.stderr
    assert "not in the local cache" in found.stderr
    assert "Traceback" not in found.stderr
    assert time.monotonic() - began < 60  # once 5 s; each file's retries would be 23 s


@pytest.mark.parametrize("family", ["blip", "chat", "clip"])
def test_the_hub_is_not_asked_about_a_missing_folder(loads, family: str) -> None:
    with hub_at(loads, {}) as hub:
        found = loads.load(family, path="tests/typo")
    assert found.returncode == 2
    assert "no folder of that name" in found.stderr
    assert not any("typo" in line for line in hub.asked)


def test_a_disk_that_is_too_small_is_said_before_the_download(folders, loads) -> None:
    claimed = {"model.safetensors": 10**15}
    with hub_at(loads, {"org/model": folders["vilt"]}, claimed=claimed) as hub:
        found = loads.load("vilt")
    assert found.returncode == 2
    assert "1,000,000.0 GB of weights will be downloaded" in found.stderr
    assert "HF_HOME" in found.stderr
    assert not any("GET org/model" in line and "safetensors" in line for line in hub.asked)


def test_bars_of_downloads_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.utils import are_progress_bars_disabled
    from transformers.utils import logging

    from abo_vqa.models.hub import silence_libraries

    silence_libraries()
    assert not are_progress_bars_disabled()
    assert not logging.is_progress_bar_enabled()


@pytest.fixture(scope="module")
def paligemma(tmp_path_factory) -> Path:
    return save_paligemma(tmp_path_factory.mktemp("gated") / "paligemma")


@pytest.mark.parametrize(
    "gated",
    [
        ("*",),
        pytest.param(("*.safetensors",), marks=pytest.mark.slow),
        pytest.param(("tokenizer*",), marks=pytest.mark.slow),
        pytest.param(("processor_config.json", "preprocessor_config.json"), marks=pytest.mark.slow),
    ],
    ids=["all", "weights", "tokenizer", "processor"],
)
def test_a_gated_repository_is_one_message(paligemma, loads, gated) -> None:
    """Whichever part is asked for first, as when the others are in the cache already."""
    with hub_at(loads, {"org/model": paligemma}, gated=gated) as hub:
        anonymous = loads.load("prefix")
        stranger = loads.load("prefix", token="hf_OfAnotherAccount")
        member = loads.load("prefix", token=TOKEN)
    for refused in (anonymous, stranger):
        assert refused.returncode == 2, refused.stderr
        assert "Traceback" not in refused.stderr
        line = refused.stderr.strip().splitlines()[-1]
        assert f"accept its licence at {hub.url}/org/model" in line
        assert "HF_TOKEN" in line
    assert "no token is set" in anonymous.stderr
    assert "the token that is set has no access" in stranger.stderr
    assert member.stdout.split() == ["loaded"], member.stderr


def test_a_gated_repository_of_another_library(loads, folders) -> None:
    """open_clip raises the hub's own error."""
    with hub_at(loads, {"org/model": folders["clip"]}, gated=("*",)) as hub:
        refused = loads.load("clip")
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
    assert f"accept its licence at {hub.url}/org/model" in refused.stderr
