"""Where training keeps vision outputs, and that none of it takes their size twice."""

import re
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from abo_vqa.models.embeddings import encoding
from abo_vqa.models.embeddings import store as stored
from abo_vqa.models.embeddings.store import EmbeddingStore
from abo_vqa.training import vision_cache
from abo_vqa.training.vision_cache import VisionCache, cache_vision_outputs
from tests.support.forks import Fork
from tests.support.pretend_gpu import pretend

CARD = torch.device("cuda", 0)
CPU = torch.device("cpu")


def store_of(count: int, dtype: str = "float32", shape: tuple[int, int] = (5, 8)) -> EmbeddingStore:
    values = torch.randn(count, *shape, generator=torch.Generator().manual_seed(0))
    vectors = encoding.to_array(values, dtype)
    paths = pd.DataFrame({"image_path": [str(i) for i in range(count)], "error": ""})
    return EmbeddingStore(vectors, paths, {"dtype": dtype})


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("room", [1, 3, 100], ids=lambda n: f"{n}-pictures-a-slice")
def test_slices_are_the_whole(monkeypatch, dtype: str, room: int) -> None:
    """Any order, with repeats, in slices that don't divide the number."""
    store = store_of(10, dtype)
    monkeypatch.setattr("abo_vqa.models.embeddings.store.SLICE", room * store.image_bytes)
    whole = torch.from_numpy(store.vectors).view(store.dtype)
    asked = [7, 2, 9, 2, 0, 5, 1]
    assert torch.equal(store.get([str(i) for i in asked]), whole[asked])


@pytest.mark.parametrize("column", ["image_path", "path"])  # the second until 0.2
def test_a_store_on_disk_is_opened(tmp_path: Path, column: str) -> None:
    np.save(tmp_path / "vectors.npy", np.ones((2, 5, 8), np.float32))
    (tmp_path / "paths.csv").write_text(f"{column},error\na.jpg,\nb.jpg,empty file\n")
    (tmp_path / "meta.json").write_text('{"dtype": "float32"}')
    store = EmbeddingStore.open(tmp_path)
    assert store.index == {"a.jpg": 0, "b.jpg": 1}
    assert store.errors == {"b.jpg": "empty file"}


def anonymous_memory() -> int:
    """This process's memory that is no file's, in bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"RssAnon:\s*(\d+)", status)[1])


def print_growth(folder: Path, way: str) -> None:
    """For a process of its own: by how many bytes it grew at most while outputs were loaded."""
    torch.ones(10).sum()
    EmbeddingStore.open(folder).close()  # what reading a small table takes once isn't the outputs'
    before = peak = anonymous_memory()
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.002):
            peak = max(peak, anonymous_memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    stored.SLICE = 2**23
    store = EmbeddingStore.open(folder)
    paths = list(store.index)[::-1]
    vision_cache.MAX_MEMORY_FRACTION = 1.0
    loaded = store.get(paths) if way == "get" else cache_vision_outputs(store, paths, CPU).vectors
    done.set()
    watcher.join()
    assert len(loaded) == len(paths)
    print(max(peak, anonymous_memory()) - before, file=sys.stderr)


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Path:
    """100 MB without a hole, so that slices of 8 MB are a small part of it."""
    folder = tmp_path_factory.mktemp("large")
    shape = (200, 127, 1024)
    vectors = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float32, shape)
    vectors[:] = 1.0
    vectors.flush()
    table = pd.DataFrame({"image_path": [f"{i}.jpg" for i in range(shape[0])], "error": ""})
    table.to_csv(folder / "paths.csv", index=False)
    (folder / "meta.json").write_text('{"dtype": "float32"}')
    return folder


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("way", ["get", "cache_vision_outputs"])
def test_at_most_a_fifth_more_than_its_size(large: Path, way: str) -> None:
    process = Fork(print_growth, large, way)
    stderr = process.wait()
    assert process.returncode == 0, stderr[-2000:]
    size = (large / "vectors.npy").stat().st_size
    assert 0.9 * size < int(stderr.splitlines()[-1]) < 1.2 * size


def test_on_the_card_where_it_fits(gpu) -> None:
    store = store_of(10)
    source = cache_vision_outputs(store, ["3", "8", "3"], CARD)
    assert isinstance(source, VisionCache)
    assert source.vectors.device == CARD
    assert torch.equal(source.get(["8", "3"]).cpu(), store.get(["8", "3"]))


def test_pinned_exactly_where_the_card_is_too_small() -> None:
    store = store_of(10)
    with pretend(memory=1000) as machine:
        source = cache_vision_outputs(store, list(store.index), CARD)
        assert isinstance(source, VisionCache)
        assert source.vectors.device == CPU
        (start,) = machine.pinned
        assert machine.pinned[start] == 10 * store.image_bytes  # no power of two
        assert start % vision_cache.PAGE == 0
        source.close()
        assert machine.pinned == {}
        source.close()


def test_pageable_where_pinning_is_refused(capsys) -> None:
    store = store_of(10)
    with pretend(memory=1000) as machine:
        machine.pinnable = 100
        source = cache_vision_outputs(store, list(store.index), CARD)
        assert isinstance(source, VisionCache)
        assert machine.pinned == {}
        source.close()
    assert "aren't pinned (CUDA's error 2)" in capsys.readouterr().err


def test_mapped_where_nothing_fits(monkeypatch) -> None:
    store = store_of(10)
    monkeypatch.setattr(vision_cache, "available_memory", lambda: 100)
    assert cache_vision_outputs(store, list(store.index), CPU) is store
    # Room on the card is of no use without any on the way to it.
    with pretend():
        assert cache_vision_outputs(store, list(store.index), CARD) is store


def test_each_process_of_a_machine_counts(monkeypatch) -> None:
    store = store_of(10)
    monkeypatch.setattr(vision_cache, "available_memory", lambda: 6 * 10 * store.image_bytes)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert isinstance(cache_vision_outputs(store, list(store.index), CPU), VisionCache)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert cache_vision_outputs(store, list(store.index), CPU) is store


def test_memory_that_runs_out_on_the_way_falls_back(monkeypatch, capsys) -> None:
    """The card says that it has room, and hasn't; then the machine, too."""
    store = store_of(10)
    with pretend(budget=1000) as machine:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2**30, 2**30))
        source = cache_vision_outputs(store, list(store.index), CARD)
        assert isinstance(source, VisionCache)
        assert source.vectors.device == CPU
        assert len(machine.pinned) == 1
        source.close()
        monkeypatch.undo()
    assert "don't fit into the memory of cuda" in capsys.readouterr().err

    def full(out, paths):
        raise MemoryError

    monkeypatch.setattr(store, "fill", full)
    assert cache_vision_outputs(store, list(store.index), CPU) is store
