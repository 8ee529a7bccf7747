"""Devices, number formats, quantisation and refusals; half precision where this machine can."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from abo_vqa.core.config import CheckpointConfig, ComputeConfig
from abo_vqa.core.devices import pick_device, pick_dtype
from abo_vqa.core.errors import UserError
from abo_vqa.models import loading
from abo_vqa.models.identity import identity
from abo_vqa.models.loading import load_options
from tests.support.pretend_gpu import pretend


def test_a_gpu_that_isnt_there() -> None:
    if torch.cuda.is_available():
        assert pick_device("cuda").type == "cuda"
        return
    assert pick_device("auto") == torch.device("cpu")
    with pytest.raises(UserError, match="no GPU"):
        pick_device("cuda")


def test_not_a_device() -> None:
    with pytest.raises(UserError, match="use auto, cpu, cuda"):
        pick_device("gpu")


def test_half_precision_is_for_gpus_unless_the_checkpoint_says_so(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    compute = ComputeConfig(device="cpu", dtype="bfloat16")
    plain, own = CheckpointConfig(path="x"), CheckpointConfig(path="x", dtype="bfloat16")
    assert pick_dtype(plain, compute, torch.device("cpu")) == torch.float32
    assert pick_dtype(plain, compute, torch.device("cuda")) == torch.bfloat16
    assert pick_dtype(own, compute, torch.device("cpu")) == torch.bfloat16


@pytest.mark.parametrize("bits", ["8bit", "4bit"])
def test_quantisation_says_what_is_missing(bits: str, monkeypatch) -> None:
    checkpoint = CheckpointConfig(path="some/model", quantize=bits)
    monkeypatch.setattr(loading, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs bitsandbytes.*set quantize to null"):
        load_options(checkpoint, ComputeConfig(device="cpu", dtype="float32"))


@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="the extra `quant` is for Linux")
def test_8_bits_are_for_every_device_and_4_for_gpus() -> None:
    compute = ComputeConfig(device="cpu", dtype="float32")
    options, _ = load_options(CheckpointConfig(path="some/model", quantize="8bit"), compute)
    assert options["quantization_config"].load_in_8bit
    with pytest.raises(UserError, match=r"needs a CUDA GPU.*Set quantize to 8bit or null"):
        load_options(CheckpointConfig(path="some/model", quantize="4bit"), compute)
    with pretend():
        gpu = ComputeConfig(device="cuda", dtype="bfloat16")
        options, _ = load_options(CheckpointConfig(path="some/model", quantize="4bit"), gpu)
    assert options["quantization_config"].load_in_4bit
    assert options["quantization_config"].bnb_4bit_compute_dtype == torch.bfloat16


def test_device_map_is_passed_on() -> None:
    checkpoint = CheckpointConfig(path="some/model", device_map="auto")
    options, _ = load_options(checkpoint, ComputeConfig(device="cpu", dtype="float32"))
    assert options["device_map"] == "auto"


def test_a_folder_of_another_kind(load, folders) -> None:
    with pytest.raises(UserError, match="no checkpoint of this kind"):
        load("blip", {"path": str(folders["blip"].parent)})


def test_identity_follows_the_weights(folders, tmp_path) -> None:
    copy = shutil.copytree(folders["vilt"], tmp_path / "vilt")
    before = identity(CheckpointConfig(path=str(copy)))
    assert before == identity(CheckpointConfig(path=str(folders["vilt"])))
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert identity(CheckpointConfig(path=str(copy))) != before
    assert identity(CheckpointConfig(path="some/model", revision="abc")) == "some/model@abc"


@pytest.mark.parametrize("name", ["blip", "blip2", "llava", "vilt", "chat"])
def test_bfloat16_runs_and_says_so(load, rows, name: str) -> None:
    """Answers may differ from float32's (tiny random models are all near-ties); types may not."""
    model = load(name, {"dtype": "bfloat16"})
    answers = model.answer(rows.images[:6], rows.questions[:6])
    assert model.record()["dtype"] == "bfloat16"
    assert all(0 <= a.confidence <= 1 for a in answers)


def test_bfloat16_clip(load, rows) -> None:
    clip = load("clip", {"dtype": "bfloat16"}, candidates=["red", "blue", "two"])
    assert clip.record()["dtype"] == "bfloat16"
    assert {a.text for a in clip.answer(rows.images, rows.questions)} <= {"red", "blue", "two"}


def renamed(folder: Path, out: Path, old: str, new: str) -> Path:
    """A copy of a checkpoint in which keys are called otherwise."""
    shutil.copytree(folder, out)
    file = next(out.glob("*model.safetensors"))
    tensors = load_file(file)
    changed = {key.replace(old, new): tensor for key, tensor in tensors.items()}
    assert set(changed) != set(tensors)
    save_file(changed, file, metadata={"format": "pt"})
    return out


PARTS = {
    "blip": "vision_model.",
    "blip2": "qformer.",
    "llava": "multi_modal_projector.",
    "vilt": "classifier.",
    "chat": "connector.",
    "clip": "visual.",
}


@pytest.mark.parametrize("name", PARTS)
def test_weights_that_arent_there_are_an_error(folders, load, tmp_path, name: str) -> None:
    """transformers would fill them up with random numbers, which answer as surely as others."""
    broken = renamed(folders[name], tmp_path / name, PARTS[name], "renamed.")
    with pytest.raises(UserError, match=r"lacks \d+ of this model's weights|Missing key"):
        load(name, {"path": str(broken)})


@pytest.mark.parametrize("name", ["blip", "clip"])
def test_weights_of_another_shape_are_an_error(folders, load, tmp_path, name: str) -> None:
    broken = shutil.copytree(folders[name], tmp_path / name)
    file = next(broken.glob("*model.safetensors"))
    tensors = load_file(file)
    key = next(k for k, t in tensors.items() if t.ndim == 2 and "mlp" in k)
    tensors[key] = tensors[key][:-1].clone()
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"can't load the checkpoint .*mismatch|lacks 1 of"):
        load(name, {"path": str(broken)})


def test_a_clip_without_weights_isnt_filled_up(folders, load, tmp_path) -> None:
    broken = shutil.copytree(folders["clip"], tmp_path / "clip")
    (broken / "open_clip_model.safetensors").unlink()
    with pytest.raises(UserError, match="can't load the checkpoint"):
        load("clip", {"path": str(broken)})


def test_a_damaged_file_is_said(folders, load, tmp_path) -> None:
    broken = shutil.copytree(folders["vilt"], tmp_path / "vilt")
    file = broken / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(UserError, match="can't load the checkpoint"):
        load("vilt", {"path": str(broken)})


def test_weights_go_straight_onto_a_card(monkeypatch) -> None:
    """Without a map they are all converted in the machine's memory first."""
    monkeypatch.setattr(loading, "pick_device", lambda wanted: torch.device("cuda", 0))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    options, device = load_options(
        CheckpointConfig(path="x"), ComputeConfig(device="cuda", dtype="bfloat16")
    )
    assert options["device_map"] == {"": device}
    assert options["dtype"] == torch.bfloat16


def test_a_model_larger_than_memory_is_refused_before_it_is_read(folders, load, monkeypatch):
    monkeypatch.setattr(loading, "available_memory", lambda: 1000)
    with pytest.raises(UserError, match=r"weights take .* in float32, and this machine has"):
        load("vilt")


def test_out_of_memory_while_loading_says_what_to_set(folders, load, monkeypatch) -> None:
    from transformers import ViltForQuestionAnswering

    def full(*args, **options):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(ViltForQuestionAnswering, "from_pretrained", full)
    with pytest.raises(UserError, match=r"while loading.*dtype: bfloat16; quantize: 8bit\. \("):
        load("vilt")


def test_advice_is_what_helps() -> None:
    """Settings that the family has, that this device takes, and that aren't there yet."""
    from abo_vqa.models.blip.model import Blip
    from abo_vqa.models.clip.model import Clip
    from abo_vqa.models.loading import out_of_memory_advice
    from abo_vqa.models.vilt import Vilt

    def said(supported_settings, device: str, dtype=torch.float32, **now: str) -> str:
        return out_of_memory_advice(
            CheckpointConfig(path="x", **now), torch.device(device), dtype, supported_settings
        )

    everything = said(Vilt.supported_settings, "cuda")
    assert "dtype: bfloat16; quantize: 8bit (or 4bit); device_map: auto" in everything
    assert said(Vilt.supported_settings, "cpu").endswith("dtype: bfloat16; quantize: 8bit.")
    assert "device_map" not in said(Blip.supported_settings, "cuda")
    assert said(Clip.supported_settings, "cuda").endswith("in the profile: dtype: bfloat16.")
    half = said(Vilt.supported_settings, "cuda", torch.bfloat16, quantize="8bit", device_map="auto")
    assert half.endswith("in the profile: quantize: 4bit.")
    for nothing in ((), Clip.supported_settings):  # a scorer; half precision already
        told = said(nothing, "cuda", torch.bfloat16)
        assert told.endswith("or use a larger GPU, or compute.device: cpu.")
    assert said((), "cpu").endswith("or use a machine with more of it.")


def test_what_an_adapter_forces_isnt_advised(folders, load, tmp_path) -> None:
    from tests.support.adapters import adapter_for

    adapter = adapter_for(folders["blip"], tmp_path, ["query"])
    assert "dtype" not in load("blip", adapter=adapter).memory_advice("blip")
    assert "dtype: bfloat16; quantize: 8bit." in load("blip").memory_advice("blip")


def test_memory_that_torch_keeps_for_itself_counts_as_free(folders, load, monkeypatch) -> None:
    """What an earlier model left is torch's until it is asked to give it back."""
    left = [10**9]
    with pretend():
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda d=None: (2 * 10**9 - left[0],) * 2)
        monkeypatch.setattr(loading, "weight_bytes", lambda *a: 1.5e9)
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: left.__setitem__(0, 0))
        loading.require_memory(
            None, CheckpointConfig(path="x"), torch.device("cuda", 0), {"dtype": torch.float32}, ""
        )
        left[0] = 0
        monkeypatch.setattr(loading, "weight_bytes", lambda *a: 2.5e9)
        with pytest.raises(UserError, match=r"take 2\.5 GB"):
            loading.require_memory(
                None,
                CheckpointConfig(path="x"),
                torch.device("cuda", 0),
                {"dtype": torch.float32},
                "",
            )


@pytest.mark.parametrize(
    ("name", "other"), [("vilt", "blip"), ("blip", "blip2"), ("blip2", "llava"), ("llava", "blip2")]
)
def test_another_kind_of_model_is_named(folders, load, name: str, other: str) -> None:
    kind = {"blip2": "blip-2"}.get(other, other)
    wanted = {"blip2": "blip-2"}.get(name, name)
    told = rf"a model of the type {kind}, and {wanted} is wanted here"
    with pytest.raises(UserError, match=told):
        load(name, {"path": str(folders[other])})


def test_a_configuration_that_makes_no_model_is_told(folders, load, tmp_path) -> None:
    broken = shutil.copytree(folders["vilt"], tmp_path / "vilt")
    settings = json.loads((broken / "config.json").read_text())
    settings["hidden_act"] = "no such function"
    (broken / "config.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match=r"can't load the checkpoint .*KeyError"):
        load("vilt", {"path": str(broken)})


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("models/sample/gone", "`dvc pull` fetches the sample's"),
        ("models/gone", "correct the path in the profile"),  # never asked of the hub
        ("~/weights/vilt", "~ isn't expanded here"),
        ("elsewhere/deep/vilt", "correct the path in the profile"),
        ("somebody/vilt", "not available from the hub"),
    ],
)
def test_a_path_that_leads_nowhere(load, tmp_path, monkeypatch, path: str, told: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    monkeypatch.setattr("abo_vqa.models.hub.reachable", lambda: False)
    with pytest.raises(UserError, match="can't load the checkpoint") as error:
        load("vilt", {"path": path})
    assert told in str(error.value)
