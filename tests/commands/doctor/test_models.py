"""Models are tried, and on a GPU held against the CPU: what is wrong there is found."""

import pytest
import torch
import yaml

from abo_vqa.commands.doctor import gpu, models, reference, training
from abo_vqa.commands.doctor.bounds import difference
from abo_vqa.models.blip.model import Blip
from abo_vqa.models.vilt import Vilt
from abo_vqa.training.step import TrainStep
from tests.support.pretend_gpu import pretend

GPU = {"device": "cuda:0", "dtype": "float32"}


def tried(look, name, **sections):
    return look(lambda case: models.check(name, case), **sections)[name]


@pytest.mark.parametrize("name", ["blip", "blip2", "clip-fixed", "llava", "vilt"])
def test_every_family_on_a_cpu(look, name):
    found = tried(look, name)
    assert found.state == "ok", found
    assert "float32 on cpu" in found.found
    assert found.numbers["answer_s"] > 0


@pytest.mark.parametrize("name", ["blip", "vilt"])
def test_a_card_that_computes_right(look, gpu, name):
    found = tried(look, name, compute=GPU)
    assert found.state == "ok", found
    assert found.numbers["encoding_difference"] < 1e-5
    assert found.numbers["likelihoods_difference"] < 1e-5
    assert 0 < found.numbers["peak_bytes"] < 1e8


@pytest.mark.parametrize("capability", [(7, 5), (8, 0)])
def test_half_precision_is_within_its_bound(look, capability):
    with pretend(capability=capability):
        found = tried(look, "blip", compute={"device": "auto", "dtype": "bfloat16"})
    assert found.state in ("ok", "warning"), found  # tiny random models are near to ties
    assert ("float16" if capability < (8, 0) else "bfloat16") + " on cuda:0" in found.found
    assert 1e-5 < found.numbers["encoding_difference"] < 8e-2


def test_a_card_that_sees_another_picture_is_a_problem(look, gpu, monkeypatch):
    see = Blip.encode

    def wrong(self, prepared):
        return see(self, prepared.flip(-1) if self.device.type == "cuda" else prepared)

    monkeypatch.setattr(Blip, "encode", wrong)
    found = tried(look, "blip", compute=GPU)
    assert found.state == "problem"
    assert found.numbers["encoding_difference"] > 0.01
    assert "Don't trust this device" in found.advice


def test_a_card_that_gives_no_numbers_is_a_problem(look, gpu, monkeypatch):
    see = Blip.encode
    monkeypatch.setattr(Blip, "encode", lambda self, prepared: see(self, prepared) * float("nan"))
    found = tried(look, "blip", compute=GPU)
    assert found.state == "problem"
    assert "isn't finite" in found.found


def test_wrong_answers_from_a_right_encoding_are_a_problem(look, gpu, monkeypatch):
    rank = Vilt.score_choices

    def wrong(self, *given):
        return [[s - (self.device.type == "cuda") for s in row] for row in rank(self, *given)]

    monkeypatch.setattr(Vilt, "score_choices", wrong)
    assert tried(look, "vilt", compute=GPU).state == "problem"


def test_a_model_too_large_for_the_cpu_is_answered_on_the_card_only(look, gpu, monkeypatch):
    monkeypatch.setattr(reference, "LARGEST", 1)
    found = tried(look, "blip", compute=GPU)
    assert found.state == "ok"
    assert "not compared with the CPU: 0.0 billion parameters take too long" in found.found
    monkeypatch.setattr(reference, "LARGEST", 1e9)
    monkeypatch.setattr(reference, "available_memory", lambda: 10)
    assert "0 GB are free" in tried(look, "blip", compute=GPU).found


def test_which_models_are_tried(look):
    def names(**sections):
        chosen = []
        look(lambda case: chosen.extend(models.chosen(case)) or [], **sections)
        return chosen

    # One of CLIP's three, and no blind baseline.
    assert names() == ["blip", "blip2", "clip-fixed", "llava", "vilt"]
    assert names(baselines={"models": ["clip-all", "blind", "clip"]}) == ["clip-all"]
    assert names(names=("vilt", "vilt", "finetuned")) == ["vilt", "finetuned"]
    # The name of the weights, which have no model of that name: one of theirs.
    assert names(names=("clip", "vilt")) == ["clip-all", "vilt"]
    assert names(names=("clip",), baselines={"models": ["vilt"]}) == ["clip-fixed"]


def test_a_model_behind_an_api_is_neither_asked_nor_has_weights(look, checkout):
    profile = checkout / "conf/profiles/sample.yaml"
    settings = yaml.safe_load(profile.read_text())
    settings["models"]["hosted"] = {"family": "endpoint", "protocol": "openai", "model": "m"}
    profile.write_text(yaml.safe_dump(settings))
    baselines = {"models": ["hosted", "vilt"]}
    chosen = []
    look(lambda case: chosen.extend(models.chosen(case)) or [], baselines=baselines)
    assert chosen == ["vilt"]
    found = look(lambda case: models.check("hosted", case))["check"]
    assert found.state == "warning"
    assert "behind an API" in found.found
    assert "abo-vqa ask --model hosted" in found.advice
    assert "hosted" not in look(gpu.dtype)["dtype"].found


def test_an_unknown_model_is_named_with_its_like(look):
    found = look(lambda case: models.check("blipp", case))["check"]
    assert found.state == "problem"
    assert "Did you mean blip" in found.found


def test_the_blind_model_has_no_weights(look):
    found = look(lambda case: models.check("blind", case))["check"]
    assert found.found.startswith("the blind baselines have no weights to try")
    assert "Did you mean" not in found.found


# ---- the training step


def stepped(look, **sections):
    return look(training.check_step, **sections)["training step"]


def test_a_step_on_a_cpu(look):
    found = stepped(look)
    assert found.state == "ok", found
    assert found.numbers["loss"] > 0


@pytest.mark.parametrize("targets", [["query", "value"], ["qkv"]], ids=["text", "vision"])
def test_a_step_on_a_card_is_the_cpus(look, gpu, targets):
    found = stepped(look, compute=GPU, lora={"targets": targets})
    assert found.state == "ok", found
    assert found.numbers["loss_difference"] < 1e-4
    assert found.numbers["gradient_difference"] < 1e-3


@pytest.mark.parametrize("capability", [(7, 5), (8, 0)])
def test_a_step_in_half_precision_is_within_its_bound(look, capability):
    """float16 with the scaler, whose first scales may overflow."""
    with pretend(capability=capability):
        found = stepped(look, compute={"device": "auto", "dtype": "bfloat16"})
    assert found.state == "ok", found
    assert 1e-6 < found.numbers["gradient_difference"] < 1e-1


def test_wrong_gradients_are_a_problem(look, gpu, monkeypatch):
    backward = TrainStep.backward

    def wrong(self, batch, ready):
        found = backward(self, batch, ready)
        if self.device.type == "cuda":
            for parameter in self.state.trainable[:2]:
                parameter.grad.mul_(1.5)
        return found

    monkeypatch.setattr(TrainStep, "backward", wrong)
    found = stepped(look, compute=GPU)
    assert found.state == "problem"
    assert "Don't train on this device" in found.advice


def test_a_loss_that_is_no_number_is_a_problem(look, monkeypatch):
    backward = TrainStep.backward
    monkeypatch.setattr(
        TrainStep, "backward", lambda self, *given: (float("nan"), backward(self, *given)[1])
    )
    assert stepped(look).state == "problem"


def test_no_memory_for_a_step_is_a_problem(look, monkeypatch):
    monkeypatch.setattr(TrainStep, "backward", lambda self, batch, ready: (0.0, True))
    found = look(training.check_step)["check"]
    assert found.state == "problem"
    assert "out of memory" in found.found


def test_the_difference_is_relative_to_the_largest_and_no_number_stays_none():
    one, other = torch.tensor([1.0, 10.0]), torch.tensor([2.0, 10.0])
    assert difference([one], [other]) == pytest.approx(0.1)
    assert difference([torch.zeros(0)], [torch.zeros(0)]) == 0
    for wrong in (torch.tensor([float("nan"), 1.0]), torch.zeros(3)):
        assert not difference([wrong], [other]) <= 1
