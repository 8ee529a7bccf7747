"""The stages `embed` and `vectors` where their vectors are several files."""

import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from abo_vqa.core.config import load_config
from abo_vqa.core.json_files import read_json
from abo_vqa.core.paths import embeddings_of, vectors_of
from abo_vqa.core.system_errors import NoSpaceError, describe_system_error
from abo_vqa.core.vector_files import SHARDS_FILE, vector_files
from abo_vqa.data.image_vectors import read_image_vectors
from abo_vqa.models.blip.model import Blip
from abo_vqa.models.embeddings import files
from abo_vqa.models.embeddings.encodings import stored_encodings
from abo_vqa.models.embeddings.store import EmbeddingStore
from abo_vqa.stages import embed, vectors
from abo_vqa.training.vision_cache import cache_vision_outputs
from tests.support import workspaces
from tests.support.stages import run_stage

EMBEDDINGS = embeddings_of("blip")
IMAGE = 5 * 32 * 4  # bytes of the tiny BLIP's output


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = workspaces.workspace(tmp_path_factory.mktemp("embed"), "blip", images=11, broken=1)
    shutil.copy(root / "data/vqa.csv", root / "data/generated.csv")
    return root


@pytest.fixture
def here(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(project)
    return project


def config_with_blocks(size: int):
    config = load_config()
    return config.model_copy(update={"embed": config.embed.model_copy(update={"batch_size": size})})


def test_the_stage_writes_shards_and_everything_reads_them(here: Path, monkeypatch) -> None:
    config = config_with_blocks(4)
    run_stage(embed, config)
    one = EmbeddingStore.open(EMBEDDINGS)
    paths = [path for path in one.index if path not in one.errors]
    expected = one.get(paths)
    meta = (EMBEDDINGS / "meta.json").read_bytes()
    shutil.rmtree(EMBEDDINGS)
    monkeypatch.setattr(files, "SHARD_BYTES", 3 * IMAGE)
    summary = run_stage(embed, config)
    assert summary.metrics["bytes"] == sum(f.stat().st_size for f in vector_files(EMBEDDINGS))
    assert len(vector_files(EMBEDDINGS)) == 4
    assert (EMBEDDINGS / "meta.json").read_bytes() == meta
    stored = stored_encodings(config, "blip")
    assert stored is not None
    assert torch.equal(stored.store.get(paths), expected)
    cache = cache_vision_outputs(stored.store, paths[::-1], torch.device("cpu"))
    assert torch.equal(cache.get(paths), expected)


def test_shards_that_are_complete_stay_when_the_stage_is_killed(here: Path, monkeypatch) -> None:
    config = config_with_blocks(2)
    monkeypatch.setattr(files, "SHARD_BYTES", 3 * IMAGE)
    run_stage(embed, config)
    whole = {p.name: p.read_bytes() for p in EMBEDDINGS.iterdir()}
    encode, calls = Blip.encode, []

    def dies(self, prepared):
        calls.append(len(prepared))
        if len(calls) == 5:
            raise KeyboardInterrupt
        return encode(self, prepared)

    monkeypatch.setattr(Blip, "encode", dies)
    with pytest.raises(KeyboardInterrupt):
        run_stage(embed, config)
    (work,) = Path(".cache/abo-vqa/embed").iterdir()
    states = {f.name: f.stat().st_mtime_ns for f in vector_files(work)[:2]}
    embed.run(config)
    assert calls == [2, 2, 2, 2, 2, 2]  # the last image is broken
    assert {f.name: f.stat().st_mtime_ns for f in vector_files(work)[:2]} == states
    assert {p.name: p.read_bytes() for p in EMBEDDINGS.iterdir()} == whole
    shutil.rmtree(work)


def test_the_disk_must_have_space_for_all_shards(here: Path, monkeypatch) -> None:
    monkeypatch.setattr(files, "SHARD_BYTES", 3 * IMAGE)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=7000))
    monkeypatch.setattr(Blip, "encode", None)  # nothing is encoded
    with pytest.raises(NoSpaceError) as refused:
        run_stage(embed, load_config())
    message = describe_system_error(refused.value)
    assert re.search(r"abo-vqa/embed/\w+: no space left on device; it takes 7,552 bytes", message)


def test_vectors_of_images_are_read_from_shards(here: Path, monkeypatch) -> None:
    run_stage(vectors, load_config(), model="blip")
    one = read_image_vectors(vectors_of("blip"))
    everything = np.arange(len(one.positions))
    expected = one.units(everything)
    monkeypatch.setattr(files, "SHARD_BYTES", 3 * 32 * 4)
    run_stage(vectors, load_config(), model="blip")
    assert len(read_json(vectors_of("blip") / SHARDS_FILE)["shards"]) == 4
    several = read_image_vectors(vectors_of("blip"))
    assert several.positions == one.positions
    np.testing.assert_array_equal(several.units(everything), expected)
