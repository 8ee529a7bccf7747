"""Memory of the machine and its cards: whether it ran out, how to give it back, the peak."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# CUDA's libraries have their own words for it, and torch passes most of them on as a plain
# RuntimeError. A library that can't be initialised has nearly always found the card full.
OUT_OF_MEMORY = re.compile(
    r"out of memory|can't allocate memory|not enough memory|"
    r"cudaErrorMemoryAllocation|CUDA_ERROR_OUT_OF_MEMORY|"
    r"CU(BLAS|DNN|SOLVER|SPARSE|FFT)_STATUS_(ALLOC_FAILED|NOT_INITIALIZED)",
    re.IGNORECASE,
)

# A container's limit, what it uses, and how much of that is files that can be let go: both versions
# of control groups.
CGROUPS = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
)


def available_memory(cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes of the machine's memory that a process can have, a container's limit included."""
    import psutil

    free = int(psutil.virtual_memory().available)
    for limit, used, cached in CGROUPS:
        try:
            most, now = (int((cgroups / name).read_text()) for name in (limit, used))
            stat = (cgroups / limit).with_name("memory.stat").read_text()
        except (OSError, ValueError):  # no such file, or "max"
            continue
        files = re.search(rf"^{cached} (\d+)$", stat, re.MULTILINE)
        free = min(free, max(most - now + (int(files[1]) if files else 0), 0))
    return free


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception, or one that it was raised from, says that memory has run out."""
    import torch

    found: BaseException | None = error
    while found is not None:
        if isinstance(found, MemoryError | torch.OutOfMemoryError):
            return True
        if isinstance(found, RuntimeError) and OUT_OF_MEMORY.search(str(found)):
            return True
        found = found.__cause__
    return False


def release_memory() -> None:
    """Give back what no tensor uses any more; call it outside the handler of an exception, which
    holds on to its frames, and these to their tensors."""
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def peak_memory(device: torch.device) -> int:
    """Bytes that the tensors on a card took at most, or on a CPU the whole process."""
    import resource
    import sys

    import torch

    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) if sys.platform == "darwin" else 1024 * int(peak)
