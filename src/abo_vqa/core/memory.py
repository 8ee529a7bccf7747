"""Memory of the machine and its GPUs: whether it ran out, what is free, the peak."""

from __future__ import annotations

import gc
import re
import resource
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# CUDA's libraries have their own words for it, and torch passes most of them on as a plain
# RuntimeError. A library that can't be initialised has nearly always found the GPU's memory full.
_OUT_OF_MEMORY = re.compile(
    r"out of memory|can't allocate memory|not enough memory|"
    r"cudaErrorMemoryAllocation|CUDA_ERROR_OUT_OF_MEMORY|"
    r"CU(BLAS|DNN|SOLVER|SPARSE|FFT)_STATUS_(ALLOC_FAILED|NOT_INITIALIZED)|"
    # cuDNN, once none of its ways to convolve has found room for its scratch memory.
    r"unable to find an engine to execute this computation",
    re.IGNORECASE,
)


def out_of_memory(error: BaseException) -> bool:
    """Tell whether an exception, or one that it was raised from, says that memory has run out.

    Args:
        error: the exception.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError) or type(cause).__name__ == "OutOfMemoryError":  # torch's
            return True
        if isinstance(cause, RuntimeError) and _OUT_OF_MEMORY.search(str(cause)):
            return True
        cause = cause.__cause__
    return False


def memory_advice(
    settings: Collection[str],
    where: str,
    *,
    cuda: bool,
    dtype: str = "",
    quantize: str = "",
    device_map: str = "",
) -> str:
    """Say what a user can do about a model that memory is too small for, as a message's end.

    Args:
        settings: those of `dtype`, `quantize` and `device_map` that its family has.
        where: whose settings they are, e.g. "models.blip".
        cuda: whether the memory is a GPU's.
        dtype: the format of its weights; empty if it isn't set.
        quantize: how they are quantised; empty if they aren't.
        device_map: how it is spread over several devices; empty if it isn't.
    """
    ways = []
    if "dtype" in settings and dtype == "float32":
        ways.append("dtype: bfloat16")
    if "quantize" in settings and not quantize:
        ways.append("quantize: 8bit (or 4bit)" if cuda else "quantize: 8bit")
    if "quantize" in settings and quantize == "8bit" and cuda:
        ways.append("quantize: 4bit")
    if "device_map" in settings and not device_map and cuda:
        ways.append("device_map: auto (several GPUs, or partly in host memory)")
    if ways:
        return (
            "Stop other programs that use this memory, or set one of these for "
            f"{where} in the profile: {'; '.join(ways)}."
        )
    other = "a larger GPU, or compute.device: cpu" if cuda else "a machine with more of it"
    return f"Stop other programs that use this memory, or use {other}."


def release_memory() -> None:
    """Give back what no tensor uses any more.

    Call it outside the handler of an exception, which keeps its frames and their tensors alive.
    """
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def available_memory(root: Path = Path("/")) -> int:
    """Return the bytes of host memory that can still be used: fewer in a container.

    Args:
        root: where the system's own files (/proc, /sys) are.
    """
    import psutil

    return min([psutil.virtual_memory().available, *container_memory(root)])


def container_memory(root: Path = Path("/")) -> Iterator[int]:
    """Find the limits that Linux's control groups set to this process.

    The kernel kills a process that exceeds one, while the machine's own numbers look fine. File
    pages that haven't been used lately count as free: the kernel drops them first.

    Args:
        root: where the system's own files (/proc, /sys) are.

    Yields:
        The bytes left under each limit.
    """
    # Version 2 and version 1, which may be there side by side: "0::/a/b", "4:memory:/a/b".
    names = {
        "": ("memory.max", "memory.current", "inactive_file"),
        "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    }
    mounted = root / "sys/fs/cgroup"
    try:
        groups = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:  # another system than Linux
        return
    for _, kind, group in (line.split(":", 2) for line in groups):
        if kind in names:
            top = mounted / kind
            # A container sees its own group as the top, under whatever name the machine knows it.
            own = top / group.lstrip("/")
            for folder in [own, *(f for f in own.parents if f.is_relative_to(top))]:
                yield from _group_memory(folder, *names[kind])


def _group_memory(folder: Path, limit: str, usage: str, reclaimable: str) -> Iterator[int]:
    """Bytes left under one control group's limit, if it has one."""
    try:
        most = (folder / limit).read_text(encoding="utf-8").strip()
        used = int((folder / usage).read_text(encoding="utf-8"))
        counts = (folder / "memory.stat").read_text(encoding="utf-8").split()
    except OSError:  # the top group has no limit; another one may be out of sight
        return
    if most != "max":
        dropped = int(dict(zip(counts[::2], counts[1::2], strict=True)).get(reclaimable, "0"))
        yield max(0, int(most) - used + dropped)


def peak_memory(device: torch.device) -> int:
    """Return the peak memory in bytes: of the tensors on a GPU, or on a CPU of the process.

    Args:
        device: the device.
    """
    import torch

    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) if sys.platform == "darwin" else 1024 * int(peak)
