"""What the system shows of NVIDIA GPUs, whether or not torch can use them."""

from __future__ import annotations

import re
from pathlib import Path

# The second is what Windows gives a Linux of WSL, for GPUs of that vendor only.
NODES = ("/dev/nvidia[0-9]*", "/usr/lib/wsl/lib/libcuda.so*")
DRIVER = Path("/proc/driver/nvidia/version")


def device_nodes() -> list[str]:
    """List the files that the system has for NVIDIA GPUs, sorted."""
    return sorted(str(path) for node in NODES for path in Path("/").glob(node[1:]))


def driver_version() -> str:
    """Return the driver's version as the kernel module states it, or "unknown"."""
    try:
        match = re.search(r"\s(\d+\.\d+(?:\.\d+)?)\s", DRIVER.read_text(encoding="utf-8"))
    except OSError:
        return "unknown"
    return match[1] if match else "unknown"
