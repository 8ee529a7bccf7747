"""Every way of saying that memory has run out, and none of the other errors."""

from pathlib import Path

import psutil
import pytest
import torch

from abo_vqa.core.memory import available_memory, container_memory, out_of_memory, peak_memory

WORDS = [
    "CUDA out of memory. Tried to allocate 2.00 GiB.",
    "CUDA error: out of memory",
    "CUDA driver error: out of memory",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "CUDA error: CUSOLVER_STATUS_ALLOC_FAILED",
    "GET was unable to find an engine to execute this computation",
    "FIND was unable to find an engine to execute this computation",
    "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.",
    "DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes.",
]


@pytest.mark.parametrize("words", WORDS)
def test_ways_of_saying_it(words: str) -> None:
    assert out_of_memory(RuntimeError(words))
    assert out_of_memory(torch.AcceleratorError(words))


def test_an_exception_raised_from_one_that_says_it() -> None:
    behind = ValueError("can't load")
    behind.__cause__ = torch.OutOfMemoryError("no more")
    assert out_of_memory(behind)
    assert out_of_memory(MemoryError())


def test_other_errors_are_other_errors() -> None:
    assert not out_of_memory(RuntimeError("CUDA error: device-side assert triggered"))
    assert not out_of_memory(RuntimeError("CUBLAS_STATUS_EXECUTION_FAILED"))
    assert not out_of_memory(ValueError("the answer is: out of memory"))


def test_the_process_has_a_peak() -> None:
    assert peak_memory(torch.device("cpu")) > 10_000_000


def group(folder: Path, names: tuple[str, str], values: tuple[str, int], stat: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in zip(names, values, strict=True):
        (folder / name).write_text(f"{value}\n")
    (folder / "memory.stat").write_text(stat)


V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes")
V2 = ("memory.max", "memory.current")


def test_a_containers_limit_counts(tmp_path: Path) -> None:
    """Version 2: the group's own limit and those of the groups above it."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/batch/job\n")
    top = tmp_path / "sys/fs/cgroup"
    group(top / "batch/job", V2, ("max", 700), "anon 600\ninactive_file 100\n")
    group(top / "batch", V2, ("5000", 4000), "anon 3500\ninactive_file 500\n")
    assert list(container_memory(tmp_path)) == [1500]
    assert available_memory(tmp_path) == 1500


def test_a_containers_limit_in_the_older_version(tmp_path: Path) -> None:
    """Version 1, seen from within: the group's folder is the top, and its name means nothing."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("5:cpu:/\n4:memory:/docker/4f6c\n0::/\n")
    stat = "cache 9\ninactive_file 1\ntotal_inactive_file 300\n"
    group(tmp_path / "sys/fs/cgroup/memory", V1, ("2000", 1000), stat)
    assert available_memory(tmp_path) == 1300


def test_without_a_limit_the_machine_counts(tmp_path: Path) -> None:
    assert list(container_memory(tmp_path)) == []
    free = psutil.virtual_memory()
    assert 0 < available_memory() <= free.total
