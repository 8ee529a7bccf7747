"""Weights in a folder or in the hub's cache: whole, in part, not there; never fetched."""

import json
from types import SimpleNamespace

import pytest
from helpers.hub.catalogue import named, write_all

from abo_vqa.config import read_yaml
from abo_vqa.doctor import weights
from abo_vqa.doctor.services import hub
from abo_vqa.doctor.weights import held

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """cached("org/model", {"file": text}): files in the hub's cache at COMMIT."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    def put(repository, files, commit=COMMIT):
        folder = tmp_path / "hub" / f"models--{repository.replace('/', '--')}" / "snapshots"
        (folder / commit).mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / commit / name).write_text(text)

    return put


def source(path, revision=COMMIT):
    return SimpleNamespace(path=path, revision=revision)


def test_one_file_at_the_pinned_revision_only(cached):
    cached("org/model", {"config.json": "{}"})
    assert not held(source("org/model")).complete
    cached("org/model", {"model.safetensors": "x" * 10})
    assert held(source("org/model")).complete
    assert held(source("org/model")).bytes == 10
    assert not held(source("org/model", "f" * 40)).complete


def test_a_shard_that_is_missing(cached):
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    cached("org/model", {"model.safetensors.index.json": json.dumps(index)})
    cached("org/model", {"one.safetensors": "x"})
    found = held(source("org/model"))
    assert not found.complete
    assert found.missing == ("two.safetensors",)
    cached("org/model", {"two.safetensors": "xx"})
    assert held(source("org/model")).complete
    assert held(source("org/model")).bytes == 3


def test_the_real_weights_are_a_warning_with_their_size(look, cached):
    found = look(weights.weights, profile="abo")
    assert found["blip2"].state == found["llava"].state == "warning"
    assert "15.0 GB will be fetched at first use" in found["blip2"].found
    assert "smolvlm" not in found  # no stage loads it
    assert found["hub cache"].numbers["needed_bytes"] == pytest.approx(34.8e9, rel=0.02)
    assert look(hub, profile="abo")["model hub"].state in ("ok", "problem")


def test_all_that_the_real_profile_names_is_found_in_the_hubs_layout(
    look, checkout, tmp_path, monkeypatch
):
    repositories = named(read_yaml(checkout / "conf/profiles/abo.yaml"))
    write_all(tmp_path, repositories.values(), real=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    found = look(weights.weights, profile="abo")
    assert set(found) == {"blip", "blip2", "clip", "llava", "vilt", "bertscore", "bartscore"}
    assert {f.state for f in found.values()} == {"ok"}
    assert (
        look(hub, profile="abo")["model hub"].found == "not needed, not asked: all weights are here"
    )


def test_no_room_for_them(look, cached, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10**10))
    found = look(weights.weights, profile="abo")["hub cache"]
    assert found.state == "problem"
    assert "HF_HOME" in found.advice


def test_a_folder_that_is_missing(look, checkout):
    assert look(weights.weights)["blip"].state == "ok"
    (checkout / "models/blip/model.safetensors").unlink()
    found = look(weights.weights)["blip"]
    assert found.state == "problem"
    assert "dvc pull" in found.advice


def test_the_hub_is_asked_only_where_weights_are_missing(look, cached, monkeypatch):
    import requests

    asked = []

    def head(url, timeout):
        asked.append(url)
        raise requests.ConnectionError("no route")

    monkeypatch.setattr(requests, "head", head)
    assert look(hub)["model hub"].state == "ok"
    assert not asked
    found = look(hub, profile="abo")["model hub"]
    assert found.state == "problem"
    assert "no route" in found.found
    assert len(asked) == 1
