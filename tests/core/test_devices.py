"""GPUs that are there and can't be used, number formats they lack, devices that are untested."""

import subprocess
from pathlib import Path

import pytest
import torch

from abo_vqa.core import devices, nvidia
from abo_vqa.core.config import CheckpointConfig, ComputeConfig
from abo_vqa.core.devices import gpu_problem, pick_device, pick_dtype
from abo_vqa.core.errors import UserError
from tests.support import ROOT

MODULE = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\n"


@pytest.fixture(autouse=True)
def afresh() -> None:
    devices._warn_once.cache_clear()


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch):
    """gpu(capability, kernels): torch sees a GPU of that kind and holds those kernels."""

    def make(capability: tuple[int, int], kernels: list[str]) -> None:
        cuda = torch.cuda
        monkeypatch.setattr(cuda, "is_available", lambda: True)
        monkeypatch.setattr(cuda, "device_count", lambda: 2)
        monkeypatch.setattr(cuda, "set_device", lambda device: None)
        monkeypatch.setattr(cuda, "get_arch_list", lambda: kernels)
        monkeypatch.setattr(cuda, "get_device_capability", lambda device=None: capability)
        monkeypatch.setattr(cuda, "get_device_name", lambda device=None: "Tesla X")
        monkeypatch.setattr(cuda, "mem_get_info", lambda device=None: (8, 8))

    return make


@pytest.fixture
def unusable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system has a gpu, and torch no use of it."""
    node = tmp_path / "nvidia0"
    node.touch()
    (tmp_path / "version").write_text(MODULE)
    monkeypatch.setattr(nvidia, "NODES", (str(node),))
    monkeypatch.setattr(nvidia, "DRIVER", tmp_path / "version")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_a_driver_too_old_is_named_instead_of_a_silent_cpu(unusable, capsys, monkeypatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    assert pick_device("auto") == torch.device("cpu")
    said = capsys.readouterr().err
    assert "taking the CPU" in said
    assert "the driver is 550.54.15" in said
    assert "TORCH_BACKEND" in said
    pick_device("auto")
    assert capsys.readouterr().err == ""  # once is enough
    with pytest.raises(UserError, match=r"but this machine has an NVIDIA GPU .*550\.54\.15"):
        pick_device("cuda")


def test_a_torch_built_without_cuda(unusable, monkeypatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "built without CUDA" in gpu_problem()


def test_a_gpu_hidden_on_purpose_is_no_fault(unusable, monkeypatch, capsys) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert pick_device("auto") == torch.device("cpu")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("capability", "kernels", "runs"),
    [
        ((7, 0), ["sm_75", "sm_80", "sm_90"], False),  # V100
        ((6, 0), ["sm_75", "sm_80", "sm_90"], False),  # P100
        ((7, 5), ["sm_75", "sm_80", "sm_90"], True),  # T4
        ((8, 9), ["sm_75", "sm_80", "sm_90"], True),  # L4: of the same major number
        ((8, 0), ["sm_75", "sm_86", "sm_90"], False),  # A100: older than the kernels of its kind
        ((12, 1), ["sm_80", "sm_90", "sm_100", "sm_120"], True),
        ((13, 0), ["sm_90", "sm_120"], False),
        ((13, 0), ["sm_90", "compute_120"], True),  # compiled for it when it is used first
    ],
)
def test_a_gpu_without_kernels(gpu, capsys, capability, kernels, runs) -> None:
    gpu(capability, kernels)
    assert pick_device("auto").type == ("cuda" if runs else "cpu")
    assert ("holds kernels for" in capsys.readouterr().err) is not runs


def test_a_gpu_gets_its_number(gpu, monkeypatch) -> None:
    chosen = []
    gpu((8, 0), ["sm_80"])
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert pick_device("cuda") == torch.device("cuda:0")
    assert pick_device("cuda:1") == torch.device("cuda:1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert pick_device("auto") == torch.device("cuda:1")
    assert chosen == [0, 1, 1]
    with pytest.raises(UserError, match=r"cuda:7 isn't there, torch sees 2"):
        pick_device("cuda:7")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(UserError, match="start one for each GPU"):
        pick_device("cuda")


def test_the_gpu_that_is_asked_for_is_looked_at(gpu, monkeypatch) -> None:
    """An old GPU for the display beside a new one."""
    gpu((8, 0), ["sm_80"])
    monkeypatch.setattr(
        torch.cuda, "get_device_capability", lambda device=0: (6, 1) if device == 0 else (8, 0)
    )
    assert pick_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(UserError, match=r"capability 6\.1"):
        pick_device("cuda:0")
    assert pick_device("auto") == torch.device("cpu")


@pytest.mark.parametrize("error", [torch.AcceleratorError, torch.cuda.DeferredCudaCallError])
def test_a_gpu_that_doesnt_start_is_named(gpu, monkeypatch, error) -> None:
    """It isn't replaced by the CPU, which takes days for the minutes that another job may need."""

    def busy(device=None):
        raise error("CUDA error: CUDA-capable device(s) is/are busy.\nFor debugging, pass 1.")

    gpu((8, 0), ["sm_80"])
    monkeypatch.setattr(torch.cuda, "mem_get_info", busy)
    told = r"^cuda:0 doesn't start \(CUDA error: CUDA-capable device\(s\) is/are busy\)\. Check"
    for wanted in ("auto", "cuda", "cuda:0"):
        with pytest.raises(UserError, match=told):
            pick_device(wanted)
    monkeypatch.setattr(torch.cuda, "get_device_capability", busy)
    with pytest.raises(UserError, match=told):
        pick_device("auto")
    assert pick_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["mps", "meta", "xpu"])
def test_devices_that_nothing_was_tried_on(name: str) -> None:
    with pytest.raises(UserError, match="Use auto, cpu, cuda"):
        pick_device(name)


def test_bfloat16_is_for_gpus_that_have_it(gpu, capsys) -> None:
    gpu((7, 5), ["sm_75"])
    compute, device = ComputeConfig(device="cuda", dtype="bfloat16"), torch.device("cuda", 0)
    assert pick_dtype(CheckpointConfig(path="x"), compute, device) == torch.float16
    assert "Tesla X has no arithmetic in bfloat16: taking float16" in capsys.readouterr().err
    assert pick_dtype(CheckpointConfig(path="x", dtype="float32"), compute, device) == torch.float32
    gpu((8, 6), ["sm_86"])
    assert pick_dtype(CheckpointConfig(path="x"), compute, device) == torch.bfloat16
    # Its products are float16, and each would say in a line of the log that it casts.
    assert pick_dtype(CheckpointConfig(path="x", quantize="8bit"), compute, device) == torch.float16
    assert (
        pick_dtype(CheckpointConfig(path="x", quantize="4bit"), compute, device) == torch.bfloat16
    )


def test_another_build_of_torch_is_installed_also_where_one_is() -> None:
    """What the messages above advise."""
    root = ROOT
    words = ["make", "--dry-run", "--always-make", "setup", "TORCH_BACKEND=cu126"]
    plan = subprocess.run(words, cwd=root, capture_output=True, text=True, check=True).stdout
    assert "--torch-backend=cu126" in plan
    assert "--reinstall-package torch " in plan
