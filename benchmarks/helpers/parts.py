"""What a stage takes in a process of its own, and its parts."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Parts = dict[str, list[float]]


def timed(parts: Parts, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with its processor and wall seconds added to `parts`."""

    def call(*args: Any, **options: Any) -> Any:
        used, wall = time.process_time(), time.perf_counter()
        try:
            result = function(*args, **options)
            return list(result) if hasattr(result, "__next__") else result
        finally:
            part = parts.setdefault(function.__name__, [0.0, 0.0])
            part[0] += time.process_time() - used
            part[1] += time.perf_counter() - wall

    return call


def print_parts(parts: Parts) -> None:
    for name, (used, wall) in parts.items():
        print(f"  {name:22} {used:7.1f} processor seconds, {wall:7.1f} s", flush=True)


def measured(script: str, stage: str, folder: Path) -> str:
    """One line: what a stage took in a process of its own."""
    start = time.perf_counter()
    command = [sys.executable, str(Path(script).resolve()), "--stage", stage]
    process = subprocess.Popen(command, cwd=folder)
    _, status, used = os.wait4(process.pid, 0)  # this process's use, not all children's
    if status:
        raise SystemExit(f"{stage} failed")
    return (
        f"{stage:9} {used.ru_utime + used.ru_stime:6.1f} processor seconds, "
        f"{time.perf_counter() - start:6.1f} s, {used.ru_maxrss / 1024:6.0f} MB"
    )
