"""Vision outputs in several files: the same vectors, read by image."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from abo_vqa.core.errors import UserError
from abo_vqa.core.json_files import read_json
from abo_vqa.core.vector_files import SHARDS_FILE, VECTORS_FILE, shard_name
from abo_vqa.data import remote_vectors, vector_shards
from abo_vqa.models.embeddings import files
from abo_vqa.models.embeddings.store import EmbeddingStore
from tests.support.embedding_builds import (
    KINDS,
    PATHS,
    ROOM,
    UNREADABLE,
    build,
    build_remote,
    contents,
    matrix,
)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "SHARD_BYTES", ROOM)


@pytest.mark.parametrize("kind", KINDS)
def test_shards_hold_the_vectors_of_the_one_file(kind, tmp_path, monkeypatch) -> None:
    build(kind, tmp_path / "one", 4)
    one = tmp_path / "one/out"
    monkeypatch.setattr(files, "SHARD_BYTES", ROOM)
    build(kind, tmp_path / "several", 4)
    several = tmp_path / "several/out"
    names = [shard["file"] for shard in read_json(several / SHARDS_FILE)["shards"]]
    assert names == [shard_name(i) for i in range(len(names))]
    assert len(names) > 3
    parts = [np.load(several / name) for name in names]
    assert all(part.nbytes <= ROOM for part in parts)
    np.testing.assert_array_equal(np.concatenate(parts), np.load(one / VECTORS_FILE))
    for name in {p.name for p in one.iterdir()} - {VECTORS_FILE}:  # the digest among them
        assert (several / name).read_bytes() == (one / name).read_bytes()
    assert not (one / SHARDS_FILE).exists()


@pytest.mark.parametrize("kind", KINDS)
def test_shards_are_of_whole_images_whatever_the_blocks(kind, tmp_path, small) -> None:
    for size in (1, 4, 23):
        build(kind, tmp_path / str(size), size)
    assert contents(tmp_path / "1/out") == contents(tmp_path / "4/out")
    assert contents(tmp_path / "1/out") == contents(tmp_path / "23/out")
    shards = read_json(tmp_path / "4/out" / SHARDS_FILE)["shards"]
    assert sum(shard["images"] for shard in shards) == 23
    if kind == "uniform":
        assert [shard["images"] for shard in shards] == [5, 5, 5, 5, 3]


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_larger_than_a_shard_has_one_of_its_own(kind, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(files, "SHARD_BYTES", 1)
    build(kind, tmp_path, 4)
    store = EmbeddingStore.open(tmp_path / "out")
    assert torch.equal(store.get([PATHS[8]])[0], torch.from_numpy(matrix(kind, 8)))


@pytest.mark.parametrize("kind", KINDS)
def test_images_are_read_from_the_shards_that_hold_them(kind, tmp_path, small) -> None:
    build(kind, tmp_path, 4)
    store = EmbeddingStore.open(tmp_path / "out")
    asked = [17, 3, 21, 3, 8, 20, 1]
    got = store.get([PATHS[i] for i in asked])
    for row, values in zip(asked, got, strict=True):
        assert torch.equal(values, torch.from_numpy(matrix(kind, row)))
    if kind == "ragged":
        assert store.texts([PATHS[i] for i in asked]) == [f"<{i % 2}>" for i in asked]
    assert store.errors == {PATHS[i]: why for i, why in UNREADABLE.items()}
    store.close()
    assert torch.equal(store.get([PATHS[1]])[0], torch.from_numpy(matrix(kind, 1)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at_a_time", [1, 200, 10**6])
def test_images_are_read_from_a_store(kind, at_a_time, tmp_path, small, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")  # what is kept lies beside it
    (tmp_path / "store").mkdir()
    monkeypatch.setattr(remote_vectors, "_BATCH", at_a_time)
    monkeypatch.setattr(remote_vectors, "_MOST_OPEN", 2)
    build_remote(kind, tmp_path, 4, f"file://{tmp_path}/store")
    assert sorted(p.suffix for p in (tmp_path / "out").iterdir()).count(".npy") == 0
    asked = [17, 3, 21, 3, 8, 20, 1, 4]
    for _ in range(2):  # from the store, and from what was kept of it
        store = EmbeddingStore.open(tmp_path / "out")
        got = store.get([PATHS[i] for i in asked])
        for row, values in zip(asked, got, strict=True):
            assert torch.equal(values, torch.from_numpy(matrix(kind, row)))
        store.close()


def test_only_shards_that_are_needed_are_opened(tmp_path, small, monkeypatch) -> None:
    build("uniform", tmp_path, 4)
    out = tmp_path / "out"
    for number in (0, 2, 4):
        (out / shard_name(number)).unlink()
    store = EmbeddingStore.open(out)
    assert len(store.get([PATHS[7], PATHS[16]])) == 2
    with pytest.raises(UserError, match=rf"out/{shard_name(2)} is missing: run the stage `embed`"):
        store.get([PATHS[7], PATHS[12]])


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="mappings are read from /proc")
@pytest.mark.parametrize("kind", KINDS)
def test_a_closed_store_holds_no_file(kind, tmp_path, small, monkeypatch) -> None:
    def mapped() -> int:
        return Path("/proc/self/maps").read_text().count(f"{tmp_path}/out/vectors-")

    build(kind, tmp_path, 4)
    store = EmbeddingStore.open(tmp_path / "out")
    assert mapped() == 0
    got = store.get([PATHS[1], PATHS[21]])
    assert mapped() == 2
    store.close()
    assert mapped() == 0
    assert torch.equal(got[0], torch.from_numpy(matrix(kind, 1)))


def test_few_files_are_open_at_a_time(tmp_path, small, monkeypatch) -> None:
    monkeypatch.setattr(vector_shards, "_MOST_MAPPED", 2)
    build("uniform", tmp_path, 4)
    opened = []
    map_array = vector_shards.map_array
    monkeypatch.setattr(
        vector_shards,
        "map_array",
        lambda file, *rest: opened.append(file) or map_array(file, *rest),
    )
    store = EmbeddingStore.open(tmp_path / "out")
    readable = [path for path in PATHS if path not in store.errors]
    assert len(store.get(readable)) == len(readable)
    assert len(opened) == 5
    store.get(readable[:2] + readable[-2:])
    assert len(opened) == 6  # the last one was still open


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", ["truncated", "empty", "longer", "foreign", "dtype", "text"])
def test_a_damaged_shard_is_one_message_that_names_it(kind, damage, tmp_path, small) -> None:
    build(kind, tmp_path, 4)
    file = tmp_path / "out" / shard_name(1)
    content = file.read_bytes()
    file.unlink()
    if damage == "truncated":
        file.write_bytes(content[:-8])
    elif damage == "longer":
        file.write_bytes(content + bytes(8))
    elif damage == "foreign":
        np.save(file, np.zeros((7, 3, 2), np.float32))
    elif damage == "dtype":
        np.save(file, np.load(tmp_path / "work" / shard_name(1)).astype(np.float16))
    else:
        file.write_bytes(b"" if damage == "empty" else b"PK\x03\x04 this is no array")
    store = EmbeddingStore.open(tmp_path / "out")
    assert len(store.get([PATHS[1]])) == 1
    with pytest.raises(UserError) as refused:
        store.get(PATHS[5:8])
    message = str(refused.value)
    assert message.startswith(f"{file} is damaged or incomplete (")
    assert message.endswith("): run the stage `embed`: dvc repro embed@out.")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("content", "reason"),
    [("{}", "KeyError"), ('{"shards": 3}', "TypeError"), ("[]", "TypeError"), ("{", "valid JSON")],
)
def test_a_damaged_list_of_shards_is_one_message(content, reason, tmp_path, small) -> None:
    build("uniform", tmp_path, 4)
    (tmp_path / "out" / SHARDS_FILE).write_text(content)
    with pytest.raises(UserError, match=rf"{SHARDS_FILE} .*{reason}"):
        EmbeddingStore.open(tmp_path / "out")


def test_shards_that_dont_fit_the_images_are_one_message(tmp_path, small) -> None:
    build("uniform", tmp_path, 4)
    table = tmp_path / "out/paths.csv"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(UserError, match=rf"{SHARDS_FILE} is damaged .*23 vectors for 22 images"):
        EmbeddingStore.open(tmp_path / "out")


def test_files_of_an_earlier_layout_go(tmp_path, monkeypatch) -> None:
    build("uniform", tmp_path, 4)
    whole = contents(tmp_path / "out")
    monkeypatch.setattr(files, "SHARD_BYTES", ROOM)
    build("uniform", tmp_path / "several", 4)
    shards = (tmp_path / "several/work").glob("vectors-*")
    for file in shards:  # as if they were in the output already
        os.link(file, tmp_path / "out" / file.name)
    monkeypatch.undo()
    build("uniform", tmp_path, 4)
    assert contents(tmp_path / "out") == whole
