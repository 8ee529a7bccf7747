"""The device and the number format to compute with."""

from __future__ import annotations

import os
import re
from functools import cache
from typing import TYPE_CHECKING

import torch

from abo_vqa.core.errors import UserError, first_line
from abo_vqa.core.log import get_logger
from abo_vqa.core.nvidia import device_nodes, driver_version

if TYPE_CHECKING:
    from abo_vqa.core.config import CheckpointConfig, ComputeConfig

logger = get_logger(__name__)

_BFLOAT16 = (8, 0)  # Ampere, the first capability with arithmetic in bfloat16
_ANOTHER_BUILD = (
    "Update the driver, or install a torch for the one that is there: "
    "`make setup TORCH_BACKEND=auto`"
)


def pick_device(name: str) -> torch.device:
    """Choose the device; of several processes, each gets its own GPU.

    A GPU comes with its number and becomes the current one, which libraries mean by "cuda".

    Args:
        name: "auto", "cpu", "cuda" or "cuda:1".

    Raises:
        UserError: The GPU that is asked for isn't there or can't be used.
    """
    if name == "auto":
        fault = gpu_problem()
        if fault:
            _warn_once(f"compute.device is auto, taking the CPU: {fault}")
        name = "cuda" if torch.cuda.is_available() and not fault else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(
            f"compute.device: {name!r} isn't a device; use auto, cpu, cuda or cuda:1."
        ) from error
    if device.type == "cpu":
        return torch.device("cpu")
    if device.type != "cuda":
        raise UserError(
            f"compute.device: {name!r} isn't supported: it is untested, and some "
            "arithmetic is in float64, which not every device has. Use auto, cpu, cuda or cuda:1."
        )
    return _pick_gpu(device)


def _pick_gpu(device: torch.device) -> torch.device:
    """Make a GPU the current one, and return it with its number.

    Raises:
        UserError: It isn't there or can't be used.
    """
    index = process_index() if device.index is None else device.index
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count and index >= count:
        raise UserError(
            f"compute.device: cuda:{index} isn't there, torch sees {count} GPU(s), numbered from "
            "0. With several processes (LOCAL_RANK), start one for each GPU at most."
        )
    if fault := gpu_problem(index):
        raise UserError(f"compute.device is {device}, but {fault}")
    if not count:
        raise UserError(f"compute.device is {device}, but torch sees no GPU; use auto or cpu.")
    if fault := start_problem(index):
        raise UserError(
            f"{fault} Check with nvidia-smi what is using it; set compute.device to another GPU "
            "(cuda:1), or to cpu, to continue without it."
        )
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def process_index() -> int:
    """Return this process's number on this machine, as torchrun and accelerate set it, else 0."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def gpu_problem(index: int | None = None) -> str:
    """Explain why an NVIDIA GPU that is there can't be used, and what to do.

    torch itself gives a warning at most, and a CPU takes days for what a GPU does in minutes.

    Args:
        index: the GPU's number; None for this process's.

    Returns:
        One or two sentences; "" if nothing is wrong.
    """
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1"):
        return ""  # hidden on purpose
    if torch.cuda.is_available():
        return _kernel_problem(process_index() if index is None else index)
    if not device_nodes():
        return ""
    if torch.version.cuda is None:
        return (
            f"this machine has an NVIDIA GPU, and torch {torch.__version__} was built without "
            "CUDA. Install another build: `make setup TORCH_BACKEND=auto`."
        )
    return (
        f"this machine has an NVIDIA GPU that torch {torch.__version__} (CUDA "
        f"{torch.version.cuda}) can't use; the driver is {driver_version()}. {_ANOTHER_BUILD}, or "
        "e.g. TORCH_BACKEND=cu126 for drivers from 525 on."
    )


def _kernel_problem(index: int) -> str:
    """Explain why torch's kernels don't run on one of the GPUs that it sees, or return ""."""
    if index >= torch.cuda.device_count():
        return ""
    try:
        capability = torch.cuda.get_device_capability(index)
    except (RuntimeError, torch.cuda.DeferredCudaCallError):
        return ""  # `start_problem` says what is wrong with it
    return _capability_problem(index, capability)


def start_problem(index: int) -> str:
    """Explain why a GPU doesn't start: another process fills or reserves it, or it is broken.

    That may be over in a minute, so it is an error and no reason to compute on the CPU.

    Args:
        index: the GPU's number.

    Returns:
        A sentence; "" if it starts.
    """
    try:
        torch.cuda.mem_get_info(index)
    except (RuntimeError, torch.cuda.DeferredCudaCallError) as error:
        return f"cuda:{index} doesn't start ({first_line(error)})."
    return ""


def _capability_problem(index: int, capability: tuple[int, int]) -> str:
    """Explain why torch's kernels don't run on a GPU, or return "".

    A build holds machine code for some capabilities, which runs on later ones of the same major
    number, and perhaps an intermediate form for all later ones.
    """
    built = torch.cuda.get_arch_list()
    if torch.version.hip or not built:
        return ""
    major, minor = capability
    for name in built:
        match = re.fullmatch(r"(sm|compute)_(\d+)(\d)[af]?", name)
        if match is None:
            continue
        kind, built_major, built_minor = match[1], int(match[2]), int(match[3])
        is_newer = (major, minor) >= (built_major, built_minor)
        if is_newer and (kind == "compute" or major == built_major):
            return ""
    return (
        f"{torch.cuda.get_device_name(index)} has capability {major}.{minor}, and torch "
        f"{torch.__version__} holds kernels for {', '.join(built)} only. "
        "Install an older build, e.g. `make setup TORCH_BACKEND=cu126`."
    )


def pick_dtype(
    checkpoint: CheckpointConfig, compute: ComputeConfig, device: torch.device
) -> torch.dtype:
    """Choose the number format: the checkpoint's own, else on a GPU `compute.dtype`, else float32.

    Half precision on a CPU is slower than float32 on most machines, so `compute.dtype` doesn't
    apply there; `models.<name>.dtype` does. GPUs without bfloat16 arithmetic emulate it slowly,
    and some layers refuse it: they get float16, as do 8-bit weights, whose products are float16.

    Args:
        checkpoint: the model's settings.
        compute: the run's settings.
        device: the device.
    """
    name = checkpoint.dtype or (compute.dtype if device.type != "cpu" else "float32")
    if name == "bfloat16" and checkpoint.quantize == "8bit":
        name = "float16"
    if name == "bfloat16" and device.type == "cuda" and not _has_bfloat16(device):
        gpu = torch.cuda.get_device_name(device)
        _warn_once(f"{gpu} has no arithmetic in bfloat16: taking float16.")
        name = "float16"
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def _has_bfloat16(device: torch.device) -> bool:
    """Tell whether a GPU computes in bfloat16 itself; torch's own function counts emulation."""
    return bool(torch.version.hip) or torch.cuda.get_device_capability(device) >= _BFLOAT16


@cache
def _warn_once(text: str) -> None:
    """Warn about something that holds for the whole process."""
    logger.warning(text)
