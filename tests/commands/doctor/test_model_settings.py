"""Settings that a model or the machine can't have, seen without loading anything."""

import pytest
import torch

from abo_vqa.cli import main
from abo_vqa.commands.doctor.model_settings import model_settings
from abo_vqa.core.config import load_config
from abo_vqa.core.errors import UserError
from abo_vqa.models.registry import checkpoint_of, family_class
from tests.support.pretend_gpu import pretend


@pytest.fixture
def bare(monkeypatch):
    """A machine without a GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


def test_settings_that_can_be_are_one_line(look, bare):
    found = look(model_settings)
    assert {f.state for f in found.values()} == {"ok"}
    assert found["model settings"].found == "valid for blip, blip2, clip, llava, vilt"
    assert set(look(model_settings, profile="abo")) == {"model settings"}


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("vlit", "Did you mean vilt?"),
        ("clip", "clip-fixed, clip-train, clip-all"),
        ("bilnd", "Did you mean blind?"),
        ("xyz", "vilt, blind"),
    ],
)
def test_a_name_of_no_model(look, name, hint):
    found = look(model_settings, baselines={"models": ["blip", name, "blind"]})
    assert set(found) == {"baselines.models"}
    assert found["baselines.models"].state == "problem"
    assert name in found["baselines.models"].found
    assert hint in found["baselines.models"].advice
    assert "params.yaml" in found["baselines.models"].advice


def test_a_model_without_weights_in_the_profile(look):
    found = look(model_settings, baselines={"models": ["smolvlm"]})["baselines.models"]
    assert found.state == "problem"
    assert "smolvlm" in found.found
    assert "conf/profiles/sample.yaml defines no weights for smolvlm" in found.advice


@pytest.mark.parametrize("name", ["vilt", "llava"])
def test_what_is_said_is_what_loading_refuses(look, at, bare, name):
    """Held against the loaders themselves: they change, and this check has words of its own."""
    at(name, quantize="4bit")
    found = look(model_settings)
    assert set(found) == {f"models.{name}"}
    assert found[f"models.{name}"].state == "problem"
    assert f"models.{name}.quantize in conf/profiles/sample.yaml" in found[f"models.{name}"].advice
    config = load_config()
    checkpoint = checkpoint_of(name, config)
    with pytest.raises(UserError):
        family_class(checkpoint).load(checkpoint, config.compute)


def test_quantised_weights_need_their_package(look, at, bare, monkeypatch):
    monkeypatch.setattr("abo_vqa.commands.doctor.model_settings.find_spec", lambda name: None)
    at("llava", quantize="8bit")
    assert "make setup EXTRAS=quant" in look(model_settings)["models.llava"].advice


def test_a_model_that_isnt_asked_may_have_any_settings(look, at, bare):
    at("llava", quantize="4bit")
    found = look(model_settings, baselines={"models": ["vilt"]})
    assert {f.state for f in found.values()} == {"ok"}


def test_a_card_has_four_bits(look, at):
    at("llava", quantize="4bit", device_map="auto")
    with pretend():
        assert set(look(model_settings)) == {"model settings"}


@pytest.mark.parametrize(("cards", "state"), [(0, "warning"), (2, "problem")])
def test_blip_isnt_spread(look, at, monkeypatch, cards, state):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
    at("blip", device_map="auto")
    found = look(model_settings)["models.blip"]
    assert found.state == state
    assert "models.blip.device_map" in found.advice


def test_a_wrong_device_doesnt_hide_the_other_settings(look, at):
    at("blip", device_map="auto")
    at("vilt", quantize="4bit")
    assert set(look(model_settings, compute={"device": "gpu0"})) == {"models.blip"}


def test_the_quick_look_has_them(checkout, at, capsys, bare):
    at("vilt", quantize="4bit")
    assert main(["doctor", "--quick"]) == 2
    assert "problem  models.vilt" in capsys.readouterr().out
