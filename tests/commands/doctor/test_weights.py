"""Weights in a folder or in the hub's cache: whole, in part, not there; never fetched."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.hub.catalogue import named, write_all

from abo_vqa.commands.doctor import machine, models, weights
from abo_vqa.commands.doctor.findings import Checkout
from abo_vqa.commands.doctor.services import hub
from abo_vqa.commands.doctor.weights import find_local_weights
from abo_vqa.core.config import load_config
from abo_vqa.core.yaml_files import read_yaml

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
    assert not find_local_weights(source("org/model")).complete
    cached("org/model", {"model.safetensors": "x" * 10})
    assert find_local_weights(source("org/model")).complete
    assert find_local_weights(source("org/model")).bytes == 10
    assert not find_local_weights(source("org/model", "f" * 40)).complete


def test_a_shard_that_is_missing(cached):
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    cached("org/model", {"model.safetensors.index.json": json.dumps(index)})
    cached("org/model", {"one.safetensors": "x"})
    found = find_local_weights(source("org/model"))
    assert not found.complete
    assert found.missing == ("two.safetensors",)
    cached("org/model", {"two.safetensors": "xx"})
    assert find_local_weights(source("org/model")).complete
    assert find_local_weights(source("org/model")).bytes == 3


def test_the_real_weights_are_a_warning_with_their_size(look, cached):
    found = look(weights.weights, profile="abo")
    assert found["blip2"].state == found["llava"].state == "warning"
    assert "15.0 GB will be fetched at first use" in found["blip2"].found
    assert "smolvlm" not in found  # no stage loads it
    assert found["hub cache"].numbers["needed_bytes"] == pytest.approx(34.8e9, rel=0.02)
    assert "network" in found["blip2"].advice
    assert "Nothing to do" not in found["blip2"].advice
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
    found = look(hub, profile="abo")["model hub"].found
    assert found == "not needed, not asked: all its weights are here"


def test_no_room_for_them(look, cached, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10**10))
    found = look(weights.weights, profile="abo")["hub cache"]
    assert found.state == "problem"
    assert "HF_HOME" in found.advice


@pytest.mark.parametrize(
    ("same", "free", "state"),
    [(True, 36.4e9, "problem"), (False, 36.4e9, "ok"), (True, 68.4e9, "ok")],
)
def test_the_cache_and_the_checkout_share_the_room_of_one_disk(
    look, cached, monkeypatch, same, free, state
):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=free))
    monkeypatch.setattr(machine, "stored_once", lambda root: False)
    monkeypatch.setattr(weights, "_same_disk", lambda one, other: same, raising=False)
    assert look(machine.disk, profile="abo")["disk"].state == "ok"
    found = look(weights.weights, profile="abo")["hub cache"]
    assert found.state == state
    if same:
        together = found.numbers["together_bytes"]
        assert together == pytest.approx(35.3e9 + 32.9e9, rel=0.01)
        assert f"{together / 1e9:.1f} GB together" in found.found
        assert (state == "ok") == ("HF_HOME" not in found.advice)


def test_disks_are_told_apart_by_what_holds_the_folders(tmp_path):
    assert weights._same_disk(tmp_path / "not" / "yet", tmp_path)
    assert not weights._same_disk(tmp_path, Path("/proc"))


@pytest.mark.parametrize(
    ("path", "there", "said"),
    [
        ("models/mine/vilt", False, "there is no folder models/mine/vilt"),
        ("models/mine/vilt", True, "no weights in models/mine/vilt"),
        ("/gone/x", False, "there is no folder /gone/x"),
        ("org/model", False, "there is no folder org/model"),
    ],
)
def test_a_folder_that_nothing_brings_is_to_be_corrected(look, checkout, at, path, there, said):
    if there:
        (checkout / path).mkdir(parents=True)
    at("vilt", path=path)
    found = look(weights.weights)["vilt"]
    assert found.state == "problem"
    assert found.found == said
    assert "models.vilt.path in conf/profiles/sample.yaml" in found.advice
    assert "dvc" not in found.advice
    assert ("models.vilt.revision" in found.advice) == (path == "org/model")


def test_a_home_folder_isnt_expanded(look, at, monkeypatch):
    monkeypatch.setenv("HOME", "/home/jane")
    at("vilt", path="~/vilt", revision=COMMIT)
    found = look(weights.weights)["vilt"]
    assert found.state == "problem"
    assert "isn't expanded" in found.found
    assert "/home/jane/vilt" in found.advice


def test_a_scorers_folder_is_a_setting_of_scorers(look, checkout):
    profile = checkout / "conf/profiles/sample.yaml"
    profile.write_text(profile.read_text().replace("models/blip\n", "gone/here/now\n"))
    assert "scorers.bartscore.path" in look(weights.weights)["bartscore"].advice


def test_the_samples_weights_are_pulled_or_made(look, at):
    at("vilt", path="models/sample/vilt")
    found = look(weights.weights)["vilt"]
    assert found.advice == "`dvc pull models/sample/vilt`, or `make sample`."


def test_a_part_of_a_folder_that_dvc_tracks_is_pulled(look, checkout):
    import dvc.repo

    with dvc.repo.Repo(str(checkout)) as repo:
        repo.add(["models"])
    (checkout / "models/blip/model.safetensors").unlink()
    assert look(weights.weights)["blip"].advice == "`dvc pull models/blip`."


def test_a_folder_that_lacks_a_shard(look, checkout):
    folder = checkout / "models/vilt"
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": "one.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "lacks 1 file(s)" in look(weights.weights)["vilt"].found


def test_without_leave_to_ask_the_hub(look, checkout, cached):
    look(weights.weights, profile="abo")  # writes the settings
    case = Checkout(checkout, load_config(), offline=True)
    found = {f.name: f for f in weights.weights(case)}["vilt"]
    assert "first use" not in found.found + found.advice
    (found,) = hub(case)
    assert found.state == "problem"
    assert "blip2" in found.found
    assert found.advice.startswith("Unset it, or copy")


@pytest.mark.parametrize("profile", ["sample", "abo"])
def test_a_model_that_isnt_tried_for_want_of_weights(look, checkout, cached, profile):
    (checkout / "models/blip/model.safetensors").unlink()
    found = look(lambda case: models.check("blip", case), profile=profile)["check"]
    assert found.state == "warning"
    assert "weights aren't here" in found.found
    assert "Mend" not in found.advice
    assert ("fetches them" in found.advice) == (profile == "abo")


def test_the_hub_is_asked_only_where_weights_are_missing(look, checkout, cached, monkeypatch):
    import requests

    asked = []

    def head(url, timeout):
        asked.append(url)
        raise requests.ConnectionError("no route")

    monkeypatch.setattr(requests, "head", head)
    # Local folders, whether or not the weights are in them.
    (checkout / "models/blip/model.safetensors").unlink()
    assert look(hub)["model hub"].found == "not needed, not asked: no weights come from it"
    assert not asked
    found = look(hub, profile="abo")["model hub"]
    assert found.state == "problem"
    assert "no route" in found.found
    assert len(asked) == 1
