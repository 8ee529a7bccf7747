"""Devices, number formats, quantisation and refusals; half precision where this machine can."""

from importlib.util import find_spec

import pytest
import torch

from abo_vqa.config import Checkpoint, Compute
from abo_vqa.errors import UserError
from abo_vqa.models.loading import identity, load_options, pick_device, pick_dtype


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


def test_half_precision_is_for_gpus_unless_the_checkpoint_says_so() -> None:
    compute = Compute(device="cpu", dtype="bfloat16")
    plain, own = Checkpoint(path="x"), Checkpoint(path="x", dtype="bfloat16")
    assert pick_dtype(plain, compute, torch.device("cpu")) == torch.float32
    assert pick_dtype(plain, compute, torch.device("cuda")) == torch.bfloat16
    assert pick_dtype(own, compute, torch.device("cpu")) == torch.bfloat16


@pytest.mark.parametrize("bits", ["8bit", "4bit"])
def test_quantisation_says_what_is_missing(bits: str) -> None:
    checkpoint = Checkpoint(path="some/model", quantize=bits)
    if find_spec("bitsandbytes") and torch.cuda.is_available():
        options, _ = load_options(checkpoint, Compute(device="auto", dtype="bfloat16"))
        assert options["quantization_config"].to_dict()[f"load_in_{bits}"]
        return
    with pytest.raises(UserError, match=r"[Ss]et quantize to null"):
        load_options(checkpoint, Compute(device="cpu", dtype="float32"))


def test_device_map_is_passed_on() -> None:
    checkpoint = Checkpoint(path="some/model", device_map="auto")
    options, _ = load_options(checkpoint, Compute(device="cpu", dtype="float32"))
    assert options["device_map"] == "auto"


def test_a_folder_of_another_kind(load, folders) -> None:
    with pytest.raises(UserError, match="no checkpoint of this kind"):
        load("blip", {"path": str(folders["blip"].parent)})


def test_identity_follows_the_weights(folders, tmp_path) -> None:
    import shutil

    copy = shutil.copytree(folders["vilt"], tmp_path / "vilt")
    before = identity(Checkpoint(path=str(copy)))
    assert before == identity(Checkpoint(path=str(folders["vilt"])))
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert identity(Checkpoint(path=str(copy))) != before
    assert identity(Checkpoint(path="some/model", revision="abc")) == "some/model@abc"


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
