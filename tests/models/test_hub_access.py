"""The hub out of reach, downloads with their size and progress, disks that are too small."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.servers.model_hub import COMMIT, TOKEN, ModelHub
from tests.support.vlms import save_paligemma

SOURCES = ROOT / "src"
LOAD = f"""
import sys
from abo_vqa.cli import run_with_safe_output
from abo_vqa.core.config import CheckpointConfig, ComputeConfig
from abo_vqa.models.registry import family_class

def work():
    family, path = sys.argv[1:]
    checkpoint = CheckpointConfig(path=path, revision="{COMMIT}", family=family)
    family_class(checkpoint).load(checkpoint, ComputeConfig(device="cpu", dtype="float32"))
    print("loaded")
    return 0

raise SystemExit(run_with_safe_output("baseline", work))
"""


def load(
    url: str,
    home: Path,
    family: str = "vilt",
    token: str | None = None,
    path: str = "org/model",
) -> subprocess.CompletedProcess:
    """Load a model in a process of its own: the hub's address is read when its library is."""
    env = {**os.environ, "HF_ENDPOINT": url, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0"}
    env["PYTHONPATH"] = str(SOURCES)
    env.pop("HF_TOKEN", None)
    if token:
        env["HF_TOKEN"] = token
    return subprocess.run(
        [sys.executable, "-c", LOAD, family, path],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_what_is_cached_loads_without_the_hub(folders, tmp_path: Path) -> None:
    """With the hub gone, its library alone would try again for minutes."""
    hub = ModelHub({"org/model": folders["vilt"]})
    first = load(hub.url, tmp_path)
    hub.close()
    assert first.stdout.split() == ["loaded"], first.stderr
    assert "GB of weights will be downloaded" in first.stderr
    second = load(hub.url, tmp_path)
    assert second.stdout.split() == ["loaded"], second.stderr
    assert "can't be reached: using what is in its cache" in second.stderr
    assert "Retrying" not in second.stderr


def test_a_hub_that_never_answers_is_given_up(tmp_path: Path) -> None:
    """A firewall that swallows everything: connections are made and nothing comes."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        found = load(f"http://127.0.0.1:{silent.getsockname()[1]}", tmp_path)
    assert found.returncode == 2, found.stderr
    assert "not in the local cache" in found.stderr
    assert "Traceback" not in found.stderr
    assert time.monotonic() - began < 60  # once 5 s; each file's retries would be 23 s


@pytest.mark.parametrize("family", ["blip", "chat", "clip"])
def test_the_hub_is_not_asked_about_a_missing_folder(tmp_path: Path, family: str) -> None:
    hub = ModelHub({})
    found = load(hub.url, tmp_path / "home", family, path="tests/typo")
    hub.close()
    assert found.returncode == 2
    assert "no folder of that name" in found.stderr
    assert not any("typo" in line for line in hub.asked)


def test_a_disk_that_is_too_small_is_said_before_the_download(folders, tmp_path: Path) -> None:
    hub = ModelHub({"org/model": folders["vilt"]}, claimed={"model.safetensors": 10**15})
    found = load(hub.url, tmp_path)
    hub.close()
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
def test_a_gated_repository_is_one_message(paligemma, tmp_path: Path, gated) -> None:
    """Whichever part is asked for first, as when the others are in the cache already."""
    hub = ModelHub({"org/model": paligemma}, gated=gated)
    try:
        anonymous = load(hub.url, tmp_path, "prefix")
        stranger = load(hub.url, tmp_path, "prefix", "hf_OfAnotherAccount")
        member = load(hub.url, tmp_path, "prefix", TOKEN)
    finally:
        hub.close()
    for refused in (anonymous, stranger):
        assert refused.returncode == 2, refused.stderr
        assert "Traceback" not in refused.stderr
        line = refused.stderr.strip().splitlines()[-1]
        assert f"accept its licence at {hub.url}/org/model" in line
        assert "HF_TOKEN" in line
    assert "no token is set" in anonymous.stderr
    assert "the token that is set has no access" in stranger.stderr
    assert member.stdout.split() == ["loaded"], member.stderr


def test_a_gated_repository_of_another_library(tmp_path: Path, folders) -> None:
    """open_clip raises the hub's own error."""
    hub = ModelHub({"org/model": folders["clip"]}, gated=("*",))
    refused = load(hub.url, tmp_path, "clip")
    hub.close()
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
    assert f"accept its licence at {hub.url}/org/model" in refused.stderr
