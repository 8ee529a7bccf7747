"""Every way of saying that memory has run out, and none of the other errors."""

from pathlib import Path

import psutil
import pytest
import torch

from abo_vqa.memory import available_memory, out_of_memory, peak_memory

WORDS = [
    "CUDA out of memory. Tried to allocate 2.00 GiB.",
    "CUDA error: out of memory",
    "CUDA driver error: out of memory",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "CUDA error: CUSOLVER_STATUS_ALLOC_FAILED",
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


def test_a_containers_limit_counts(tmp_path: Path) -> None:
    assert available_memory(tmp_path) > 1_000_000
    (tmp_path / "memory.stat").write_text("anon 3\ninactive_file 2\n")
    (tmp_path / "memory.current").write_text("5\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert 0.5 < available_memory(tmp_path) / psutil.virtual_memory().available < 2
    (tmp_path / "memory.max").write_text("1005\n")
    assert available_memory(tmp_path) == 1002
