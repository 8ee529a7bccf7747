"""A worker: a Ray actor, which makes its work once and applies it to chunks of batches."""

from __future__ import annotations

import os
import platform
import socket
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ray
from ray import cloudpickle

from abo_vqa.core.engine.work import Work
from abo_vqa.core.errors import AboVqaError
from abo_vqa.core.fingerprints import file_md5, fingerprint
from abo_vqa.core.log import capture_messages
from abo_vqa.core.stage import pin_threads

AHEAD = 4
"""Results that a worker computes before the driver has taken the first."""


@ray.remote
class Worker:
    """Makes its work once, and applies it to chunks of batches.

    Args:
        folder: where the driver works; the same on every machine.
        threads: see `pin_threads`.
    """

    def __init__(self, folder: str, threads: int) -> None:
        self._folder, self._threads = folder, threads
        self._work: Work[Any, Any] | None = None

    def start(self, sources: str) -> tuple[str, str, str]:
        """Return where the worker is, on which processor, and why it can't work there, or ""."""
        host, processor = socket.gethostname(), _processor()
        if not Path(self._folder).is_dir():
            return host, processor, f"there is no folder {self._folder}"
        os.chdir(self._folder)
        pin_threads(self._threads)
        same = sources_digest() == sources
        return host, processor, "" if same else "its copy of src/abo_vqa differs"

    @ray.method(num_returns="streaming", _generator_backpressure_num_objects=AHEAD)
    def compute(self, pickled: bytes, batches: Sequence[Any]) -> Iterator[tuple[str, Any]]:
        """Yield ("result", …) for each batch; ("log", …) in between, or ("error", …) at the end."""
        with capture_messages() as messages:
            try:
                if self._work is None:
                    self._work = cloudpickle.loads(pickled)()
                for result in self._work(batches):
                    yield from (("log", messages.popleft()) for _ in range(len(messages)))
                    yield "result", result
            except Exception as error:
                if not isinstance(error, AboVqaError):
                    error.add_note("".join(traceback.format_exception(error)))
                yield from (("log", message) for message in messages)
                yield "error", error


def sources_digest() -> str:
    """Hash this package's sources, which all machines of a cluster must share.

    Not what Python has compiled of them, which differs, and appears while they are imported.
    """
    package = Path(__file__).parents[3]
    files = sorted(package.rglob("*.py"))
    return fingerprint([(file.relative_to(package).as_posix(), file_md5(file)) for file in files])


def _processor() -> str:
    """Name what this worker computes on: its kind of GPU as Ray calls it, else the processor."""
    if ray.get_gpu_ids():
        node = ray.get_runtime_context().get_node_id()
        resources = next(n["Resources"] for n in ray.nodes() if n["NodeID"] == node)  # type: ignore[no-untyped-call]
        kinds = [name for name in resources if name.startswith("accelerator_type:")]
        return ", ".join(sorted(kinds)) or "a GPU"
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
