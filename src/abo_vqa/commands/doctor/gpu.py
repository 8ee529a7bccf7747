"""Checks of the GPU: driver, what torch makes of it, the device and dtype chosen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from abo_vqa.commands.doctor.findings import (
    Checkout,
    Finding,
    NotCheckedError,
    ok,
    problem,
    warning,
)
from abo_vqa.core.errors import UserError
from abo_vqa.core.nvidia import device_nodes, driver_version
from abo_vqa.core.units import GB

if TYPE_CHECKING:
    import torch

    from abo_vqa.core.config import Config

_SLOW = (
    "Models of real size take days on a CPU for what a GPU of 16 GB (24 GB for LLaVA) does in "
    "hours. Try parts: baselines.fraction, fewer baselines.models (docs/real-abo.md)."
)


def driver(_case: Checkout) -> Iterator[Finding]:
    """Report what the system shows of a card, whether or not torch can use it."""
    if nodes := device_nodes():
        yield ok("driver", f"NVIDIA {driver_version()}; {', '.join(nodes)}")
    else:
        yield ok("driver", "no NVIDIA device")


def build(_case: Checkout) -> Iterator[Finding]:
    """Report what torch was built for."""
    import torch

    built_for = torch.version.cuda or torch.version.hip
    kernels = ", ".join(torch.cuda.get_arch_list())
    message = f"CUDA {torch.version.cuda}" if torch.version.cuda else f"ROCm {built_for}"
    kernel_note = f", kernels for {kernels}" if kernels else ""
    built = f"{message}{kernel_note}" if built_for else "no GPU"
    yield ok("torch", f"{torch.__version__}, built for {built}")


def cards(_case: Checkout) -> Iterator[Finding]:
    """Report the cards that torch sees: capability and memory."""
    import torch

    from abo_vqa.core.devices import start_problem

    if not torch.cuda.is_available():
        return
    for index in range(torch.cuda.device_count()):
        if fault := start_problem(index):
            advice = (
                "`nvidia-smi` shows what is using it; set compute.device to another GPU, or to cpu."
            )
            yield problem(f"cuda:{index}", fault.rstrip("."), advice)
            continue
        major, minor = torch.cuda.get_device_capability(index)
        free, total = torch.cuda.mem_get_info(index)
        message = (
            f"{torch.cuda.get_device_name(index)}, capability {major}.{minor}, "
            f"{free / GB:.1f} of {total / GB:.1f} GB free"
        )
        numbers = {"free_bytes": float(free), "total_bytes": float(total)}
        if free >= total / 2:
            yield ok(f"cuda:{index}", message, numbers)
        else:
            advice = (
                "Another process is using it (`nvidia-smi`): stop that, or take smaller batches."
            )
            yield warning(f"cuda:{index}", message, advice, numbers)


def device(case: Checkout) -> Iterator[Finding]:
    """Report the device that is chosen, and what keeps a GPU from being used.

    Args:
        case: the checkout.
    """
    from abo_vqa.core.devices import gpu_problem, pick_device

    config = case.settings
    requested = config.compute.device
    fault = gpu_problem()
    picked = "" if fault and requested == "auto" else str(pick_device(requested))
    if picked:
        message = f"{picked} (compute.device: {requested})"
        alone = picked == "cpu" and case.real and requested == "auto"
        yield warning("device", f"{message}; no GPU", _SLOW) if alone else ok("device", message)
    else:
        cause, _, remedy = fault.partition(". ")
        finding = problem if case.real else warning
        yield finding("device", f"cpu (compute.device: {requested}), although {cause}", remedy)


def dtype(case: Checkout) -> Iterator[Finding]:
    """Report the dtype of each model's arithmetic.

    Args:
        case: the checkout.
    """
    from abo_vqa.core.devices import pick_dtype

    config = case.settings
    place = usable(config)
    kinds: dict[str, list[str]] = {}
    for key, checkpoint in config.models:
        if checkpoint.endpoint:  # computes elsewhere
            continue
        prefix = f"{checkpoint.quantize} weights, " if checkpoint.quantize else ""
        name = str(pick_dtype(checkpoint, config.compute, place)).removeprefix("torch.")
        kinds.setdefault(prefix + name, []).append(key)
    message = "; ".join(f"{kind}: {', '.join(keys)}" for kind, keys in kinds.items())
    requested = config.compute.dtype
    # A CPU computes in float32 whatever compute.dtype says, and a card without bfloat16 in float16.
    note = (
        "" if requested in message else f" (compute.dtype: {requested} isn't used on this device)"
    )
    yield ok("dtype", message + note)


def usable(config: Config) -> torch.device:
    """Return the device that models are tried on: the chosen one, without a warning about it.

    Args:
        config: the settings.

    Raises:
        NotCheckedError: It isn't there or can't be used, which `device` reports.
    """
    import torch

    from abo_vqa.core.devices import gpu_problem, pick_device, process_index, start_problem

    if config.compute.device == "auto" and (gpu_problem() or start_problem(process_index())):
        return torch.device("cpu")
    try:
        return pick_device(config.compute.device)
    except UserError as error:
        raise NotCheckedError("not checked: no device", "See device, above.") from error
