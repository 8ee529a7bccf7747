"""Vision outputs in several files: the same vectors, after a kill anywhere, read by image."""

import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from abo_vqa.core.errors import UserError
from abo_vqa.core.json_files import read_json
from abo_vqa.core.vector_files import SHARDS_FILE, VECTORS_FILE, shard_name
from abo_vqa.data import vector_shards
from abo_vqa.models.embeddings import files
from abo_vqa.models.embeddings.builder import EmbeddingBuilder
from abo_vqa.models.embeddings.publishing import publish_vectors
from abo_vqa.models.embeddings.ragged import RaggedEmbeddingBuilder
from abo_vqa.models.embeddings.store import EmbeddingStore, write_description
from tests.support.forks import Fork

WIDTH, COUNT = 4, 23
UNREADABLE = {0: "empty", 9: "not a JPEG", 22: "empty"}
PATHS = [f"{i:02d}.jpg" for i in range(COUNT)]
KINDS = ["uniform", "ragged"]
ROOM = 5 * 3 * WIDTH * 4  # five images of three tokens in float32


def matrix(kind: str, row: int) -> np.ndarray:
    tokens = 3 if kind == "uniform" else 1 + row % 5
    values = np.random.default_rng(row).normal(size=(tokens, WIDTH))
    return values.astype(np.float32)


def make_builder(kind: str, work: Path, out: Path) -> EmbeddingBuilder | RaggedEmbeddingBuilder:
    if kind == "uniform":
        return EmbeddingBuilder(work, (COUNT, 3, WIDTH), "float32", out)
    return RaggedEmbeddingBuilder(work, COUNT, "float32", out)


def build(kind: str, place: Path, size: int) -> None:
    """Write a store in blocks of `size` images, going on with what the scratch folder holds."""
    work, out = place / "work", place / "out"
    work.mkdir(parents=True, exist_ok=True)
    builder = make_builder(kind, work, out)
    blocks = [range(at, min(at + size, COUNT)) for at in range(0, COUNT, size)]
    for block in blocks[builder.done :]:
        rows = {row: matrix(kind, row) for row in block if row not in UNREADABLE}
        errors = {PATHS[row]: UNREADABLE[row] for row in block if row in UNREADABLE}
        texts = {row: f"<{row % 2}>" for row in rows} if kind == "ragged" else {}
        builder.add(rows, errors, texts)
    builder.finish()
    publish_vectors(builder.shards, "float32", builder.row_shape, out)
    meta = {"dtype": "float32", **builder.sizes, "digest": builder.digest}
    write_description(out, PATHS, builder.errors, meta, builder.columns, builder.lines)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


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
    for size in (1, 4, COUNT):
        build(kind, tmp_path / str(size), size)
    assert contents(tmp_path / "1/out") == contents(tmp_path / "4/out")
    assert contents(tmp_path / "1/out") == contents(tmp_path / f"{COUNT}/out")
    shards = read_json(tmp_path / "4/out" / SHARDS_FILE)["shards"]
    assert sum(shard["images"] for shard in shards) == COUNT
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


def test_only_shards_that_are_needed_are_opened(tmp_path, small, monkeypatch) -> None:
    build("uniform", tmp_path, 4)
    out = tmp_path / "out"
    for number in (0, 2, 4):
        (out / shard_name(number)).unlink()
    store = EmbeddingStore.open(out)
    assert len(store.get([PATHS[7], PATHS[16]])) == 2
    with pytest.raises(UserError, match=rf"out/{shard_name(2)} is missing: run the stage `embed`"):
        store.get([PATHS[7], PATHS[12]])


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


# --- kills ---------------------------------------------------------------------------------------


def killed_at(line: int, kind: str, place: Path) -> bool:
    """Build in a process that SIGKILL ends at the n-th line of our code; whether it came so far."""
    child = os.fork()
    if child == 0:
        left = line

        def count(frame, event, _argument):
            nonlocal left
            if "abo_vqa" not in frame.f_code.co_filename:
                return None
            left -= event == "line"
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return count

        sys.settrace(count)
        build(kind, place, 4)
        sys.settrace(None)
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def complete(kind: str, place: Path) -> dict[Path, tuple[int, bytes]]:
    """The shards that the scratch folder's record says are complete: no other run changes them."""
    work = place / "work"
    if not work.is_dir() or not (done := make_builder(kind, work, place / "out").done):
        return {}
    shards, images, result = make_builder(kind, work, place / "out").shards, 0, {}
    for number, shard in enumerate(shards):
        images += shard.images
        finished = images <= done * 4 if kind == "uniform" else number < len(shards) - 1
        if finished:
            result[shard.file] = (shard.file.stat().st_mtime_ns, shard.file.read_bytes())
    return result


def kill_everywhere(kind: str, place: Path, stride: int) -> None:
    """For a process without threads: kill a build at each n-th line, and finish it."""
    files.SHARD_BYTES = ROOM
    build(kind, place / "whole", 4)
    whole = contents(place / "whole/out")
    line, kept = stride, 0
    while killed_at(line, kind, place / str(line)):
        before = complete(kind, place / str(line))
        shutil.rmtree(place / str(line) / "out", ignore_errors=True)  # as DVC does
        build(kind, place / str(line), 4)
        assert contents(place / str(line) / "out") == whole, line
        for file, state in before.items():
            assert (file.stat().st_mtime_ns, file.read_bytes()) == state, (line, file)
        kept += len(before)
        line += stride
    assert line > 15 * stride
    assert kept > 15


@pytest.mark.parametrize("kind", KINDS)
def test_killed_anywhere_and_resumed_to_the_same_bytes(kind: str, tmp_path: Path) -> None:
    process = Fork(kill_everywhere, kind, tmp_path, 29)
    stderr = process.wait()
    assert process.returncode == 0, stderr[-3000:]
