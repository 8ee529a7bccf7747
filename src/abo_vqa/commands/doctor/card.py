"""Checks of the GPU: driver, what torch makes of it, the device and number format chosen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from abo_vqa.commands.doctor.findings import Case, Finding, NotCheckedError, ok, problem, warning
from abo_vqa.core.errors import UserError
from abo_vqa.core.nvidia import device_nodes, driver_version
from abo_vqa.core.units import GB

if TYPE_CHECKING:
    import torch

    from abo_vqa.config import Config

_SLOW = (
    "Models of real size take days on a CPU for what a GPU of 16 GB (24 GB for LLaVA) does in "
    "hours. Try parts: baselines.fraction, fewer baselines.models (docs/real-abo.md)."
)


def driver(_case: Case) -> Iterator[Finding]:
    """Report what the system shows of a card, whether or not torch can use it."""
    if nodes := device_nodes():
        yield ok("driver", f"NVIDIA {driver_version()}; {', '.join(nodes)}")
    else:
        yield ok("driver", "no NVIDIA device")


def build(_case: Case) -> Iterator[Finding]:
    """Report what torch was built for."""
    import torch

    made = torch.version.cuda or torch.version.hip
    kernels = ", ".join(torch.cuda.get_arch_list())
    said = f"CUDA {torch.version.cuda}" if torch.version.cuda else f"ROCm {made}"
    held = f", kernels for {kernels}" if kernels else ""
    built = f"{said}{held}" if made else "no GPU"
    yield ok("torch", f"{torch.__version__}, built for {built}")


def cards(_case: Case) -> Iterator[Finding]:
    """Report the cards that torch sees: capability and memory."""
    import torch

    from abo_vqa.core.devices import start_fault

    if not torch.cuda.is_available():
        return
    for index in range(torch.cuda.device_count()):
        if fault := start_fault(index):
            advice = "`nvidia-smi` lists who uses it; compute.device names another card, or cpu."
            yield problem(f"cuda:{index}", fault.rstrip("."), advice)
            continue
        major, minor = torch.cuda.get_device_capability(index)
        free, total = torch.cuda.mem_get_info(index)
        said = (
            f"{torch.cuda.get_device_name(index)}, capability {major}.{minor}, "
            f"{free / GB:.1f} of {total / GB:.1f} GB free"
        )
        numbers = {"free_bytes": float(free), "total_bytes": float(total)}
        if free >= total / 2:
            yield ok(f"cuda:{index}", said, numbers)
        else:
            advice = "Another process uses it (`nvidia-smi` lists them): end that, or expect less."
            yield warning(f"cuda:{index}", said, advice, numbers)


def device(case: Case) -> Iterator[Finding]:
    """Report the device that is chosen, and what keeps a GPU from being used.

    Args:
        case: the checkout.
    """
    from abo_vqa.core.devices import gpu_fault, pick_device

    config = case.settings
    wanted = config.compute.device
    fault = gpu_fault()
    picked = "" if fault and wanted == "auto" else str(pick_device(wanted))
    if picked:
        said = f"{picked} (compute.device: {wanted})"
        alone = picked == "cpu" and case.real and wanted == "auto"
        yield warning("device", f"{said}; no GPU", _SLOW) if alone else ok("device", said)
    else:
        found, _, remedy = fault.partition(". ")
        made = problem if case.real else warning
        yield made("device", f"cpu (compute.device: {wanted}), although {found}", remedy)


def dtype(case: Case) -> Iterator[Finding]:
    """Report the number format of each model's arithmetic.

    Args:
        case: the checkout.
    """
    from abo_vqa.core.devices import pick_dtype

    config = case.settings
    place = usable(config)
    kinds: dict[str, list[str]] = {}
    for key, checkpoint in config.models:
        kept = f"{checkpoint.quantize} weights, " if checkpoint.quantize else ""
        name = str(pick_dtype(checkpoint, config.compute, place)).removeprefix("torch.")
        kinds.setdefault(kept + name, []).append(key)
    said = "; ".join(f"{kind}: {', '.join(keys)}" for kind, keys in kinds.items())
    asked = config.compute.dtype
    # A CPU computes in float32 whatever compute.dtype says, and a card without bfloat16 in float16.
    note = "" if asked in said else f" (compute.dtype: {asked}, which this device isn't for)"
    yield ok("dtype", said + note)


def usable(config: Config) -> torch.device:
    """Return the device that models are tried on: the chosen one, without a warning about it.

    Args:
        config: the settings.

    Raises:
        NotCheckedError: It isn't there or can't be used, which `device` reports.
    """
    import torch

    from abo_vqa.core.devices import gpu_fault, pick_device, process_index, start_fault

    if config.compute.device == "auto" and (gpu_fault() or start_fault(process_index())):
        return torch.device("cpu")
    try:
        return pick_device(config.compute.device)
    except UserError as error:
        raise NotCheckedError("not checked: no device", "See device, above.") from error
