"""GPU measurements: description, matrix-product rate, rows per second, peak memory."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from abo_vqa.core.memory import out_of_memory, peak_memory, release_memory
from abo_vqa.core.nvidia import driver_version

PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "torchvision",
    "numpy",
)

Step = Callable[[], Any]


def describe(device: torch.device) -> dict[str, Any]:
    """The card, its driver, the versions and settings that a figure depends on."""
    properties: dict[str, Any] = {
        "device": str(device),
        "name": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "packages": {name: installed(name) for name in PACKAGES},
        "cuda": torch.version.cuda,
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "tf32_matmul": torch.backends.cuda.matmul.allow_tf32,
        "tf32_convolutions": torch.backends.cudnn.allow_tf32,
        "threads": torch.get_num_threads(),
    }
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        properties |= {
            "name": card.name,
            "capability": "{}.{}".format(*torch.cuda.get_device_capability(device)),
            "memory_bytes": card.total_memory,
            "free_bytes": torch.cuda.mem_get_info(device)[0],
            "driver": driver_version(),
            "cudnn": torch.backends.cudnn.version(),
        }
    return properties


def installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def wait(device: torch.device) -> None:
    """Until the card has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matrix_rate(
    device: torch.device, dtype: torch.dtype, size: int = 8192, seconds: float = 0.5
) -> float:
    """Operations a second of a large square matrix product, at best: the card's peak here."""
    a = torch.randn(size, size, device=device).to(dtype)
    b = torch.randn(size, size, device=device).to(dtype)
    best, began = 0.0, time.perf_counter()
    a @ b
    wait(device)
    while not best or time.perf_counter() - began < seconds:
        start = time.perf_counter()
        for _ in range(3):
            a @ b
        wait(device)
        best = max(best, 3 * 2 * size**3 / (time.perf_counter() - start))
    return best


@dataclass(frozen=True)
class Measured:
    """Rows a second of a step, how often it was timed, and the bytes on the card at most."""

    speed: float
    steps: int
    peak_bytes: int


def measure(step: Step, rows: int, device: torch.device, seconds: float) -> Measured:
    """Repeat a step of so many rows until the time is over, after running it once or twice."""
    began = time.perf_counter()
    step()
    wait(device)
    if time.perf_counter() - began < seconds / 4:
        step()
        wait(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    began, steps = time.perf_counter(), 0
    while steps < 2 or time.perf_counter() - began < seconds:
        step()
        wait(device)
        steps += 1
    taken = time.perf_counter() - began
    return Measured(steps * rows / taken, steps, peak_memory(device))


def fits(step: Step, device: torch.device) -> bool:
    """Run a step; False if memory ran out, in whatever words."""
    try:
        step()
        wait(device)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        failed = True
    else:
        failed = False
    if failed:  # outside the handler: what it holds couldn't be freed
        release_memory()
    return not failed


def largest(
    make: Callable[[int], Step], start: int, limit: int, device: torch.device, seconds: float
) -> tuple[int, str]:
    """The largest batch, doubled from one that fits, and what ended the search.

    The time a doubled batch takes is expected to double, too: none is begun that can't end in time.
    """
    batch, ends, took = start, time.perf_counter() + seconds, 0.0
    while 2 * batch <= limit:
        if time.perf_counter() + 2 * took > ends:
            return batch, "time"
        began = time.perf_counter()
        if not fits(make(2 * batch), device):
            return batch, "memory"
        took = time.perf_counter() - began
        batch *= 2
    return batch, "limit"
