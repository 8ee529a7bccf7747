"""The stage `embed`: vision outputs that equal the library's, in any dtype, after any kill."""

from pathlib import Path

import numpy as np
import pytest
import torch

from abo_vqa.core.config import load_config
from abo_vqa.core.errors import UserError
from abo_vqa.core.json_files import read_json
from abo_vqa.core.paths import embeddings_of
from abo_vqa.core.tables import read_table
from abo_vqa.data.archive import open_archive
from abo_vqa.models.answers import Answer
from abo_vqa.models.base import VQAModel
from abo_vqa.models.embeddings import build, encoding
from abo_vqa.models.embeddings.store import EmbeddingStore
from abo_vqa.stages import embed
from tests.support import workspaces
from tests.support.stages import run_stage

EMBEDDINGS = embeddings_of("blip")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return workspaces.workspace(tmp_path_factory.mktemp("embed"), "blip", images=11, broken=1)


@pytest.fixture
def here(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(project)
    return project


class Constant(VQAModel):
    """Nothing of it can be stored."""

    device = torch.device("cpu")

    def encode(self, pixel_values):
        return pixel_values

    def predict_answers(self, encoded, image_index, questions):
        return [Answer("white") for _ in questions]

    def record(self):
        return {}


def with_embed(config, **changes):
    return config.model_copy(update={"embed": config.embed.model_copy(update=changes)})


def library(config, path: str) -> torch.Tensor:
    from transformers import BlipForQuestionAnswering, BlipProcessor

    model = BlipForQuestionAnswering.from_pretrained(config.models.blip.path).eval()
    processor = BlipProcessor.from_pretrained(config.models.blip.path)
    with open_archive(config.data.raw) as archive, torch.no_grad():
        pixels = processor.image_processor(archive.image(path), return_tensors="pt")
        return model.vision_model(pixels["pixel_values"]).last_hidden_state[0]


def test_store_holds_the_librarys_outputs(here: Path) -> None:
    config = with_embed(load_config(), batch_size=4)
    summary = run_stage(embed, config)
    store = EmbeddingStore.open(EMBEDDINGS)
    paths = sorted(set(read_table("data/vqa.csv")["image_path"]))
    assert list(store.index) == paths
    assert summary.metrics["pictures"] == 11
    assert store.vectors.shape == (11, 5, 32)
    asked = [paths[7], paths[2], paths[7]]  # any order, repeats
    got = store.get(asked)
    assert got.dtype == torch.float32
    for row, path in zip(got, asked, strict=True):
        torch.testing.assert_close(row, library(config, path), rtol=1e-5, atol=1e-5)


def test_unreadable_picture_is_a_named_error(here: Path) -> None:
    run_stage(embed, load_config())
    store = EmbeddingStore.open(EMBEDDINGS)
    assert store.errors == {"00/0000000a.jpg": "not a JPEG"}
    with pytest.raises(UserError, match="not a JPEG"):
        store.get(["00/0000000a.jpg"])
    with pytest.raises(UserError, match="run `embed` again"):
        store.get(["99/none.jpg"])


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 1e-3), ("bfloat16", 1e-2)])
def test_smaller_dtypes(here: Path, dtype: str, tolerance: float) -> None:
    config = with_embed(load_config(), dtype=dtype)
    run_stage(embed, config)
    store = EmbeddingStore.open(EMBEDDINGS)
    assert store.vectors.dtype.itemsize == 2
    got = store.get(list(store.index)[:3])
    assert got.dtype == getattr(torch, dtype)
    expected = torch.stack([library(config, path) for path in list(store.index)[:3]])
    torch.testing.assert_close(got.float(), expected, rtol=tolerance, atol=tolerance)


def test_matches_only_its_own_weights_and_dtype(here: Path) -> None:
    config = load_config()
    run_stage(embed, config)
    store = EmbeddingStore.open(EMBEDDINGS)
    assert store.matches(config, "blip")
    assert not store.matches(with_embed(config, dtype="float16"), "blip")
    weights = Path(config.models.blip.path) / "model.safetensors"
    kept = weights.read_bytes()
    try:
        weights.write_bytes(kept + b" ")
        assert not store.matches(config, "blip")
    finally:
        weights.write_bytes(kept)


def test_nothing_that_differs_between_runs(here: Path) -> None:
    run_stage(embed, load_config())
    first = {p.name: p.read_bytes() for p in EMBEDDINGS.iterdir()}
    run_stage(embed, load_config())
    assert {p.name: p.read_bytes() for p in EMBEDDINGS.iterdir()} == first
    assert set(read_json(EMBEDDINGS / "meta.json")) == {
        "model", "revision", "weights", "quantize", "dtype", "arithmetic", "images", "tokens",
        "width", "digest",
    }  # fmt: skip


def test_killed_after_some_blocks_and_resumed(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from abo_vqa.models.blip.model import Blip

    config = with_embed(load_config(), batch_size=3)
    run_stage(embed, config)
    whole = {p.name: p.read_bytes() for p in EMBEDDINGS.iterdir()}
    see, calls = Blip.encode, []

    def dies(self, prepared):
        calls.append(len(prepared))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return see(self, prepared)

    monkeypatch.setattr(Blip, "encode", dies)
    with pytest.raises(KeyboardInterrupt):
        run_stage(embed, config)
    run_stage(embed, config)
    assert calls == [3, 3, 3, 3, 1]  # the third block again, then the fourth without its ruin
    assert {p.name: p.read_bytes() for p in EMBEDDINGS.iterdir()} == whole


@pytest.mark.parametrize("damage", ["state", "vectors", "empty", "shape"])
def test_a_damaged_journal_starts_over(here: Path, damage: str, capsys) -> None:
    config = with_embed(load_config(), batch_size=3)
    embed.run(config)
    whole = {p.name: p.read_bytes() for p in EMBEDDINGS.iterdir()}
    (folder,) = Path(".cache/abo-vqa/embed").iterdir()
    (EMBEDDINGS / "vectors.npy").unlink()  # the same file under another name
    if damage == "state":
        (folder / "state.json").write_text('{"done": ')
    elif damage == "vectors":
        (folder / "vectors.npy").write_bytes((folder / "vectors.npy").read_bytes()[:200])
    elif damage == "empty":
        (folder / "vectors.npy").write_bytes(b"")
    else:
        np.save(folder / "vectors.npy", np.zeros((2, 3), np.float32))
    run_stage(embed, config)
    assert "starting over" in capsys.readouterr().err
    assert {p.name: p.read_bytes() for p in EMBEDDINGS.iterdir()} == whole


def test_what_is_embedded_is_kept_until_the_stage_has_ended(here: Path, monkeypatch) -> None:
    from abo_vqa.models.blip.model import Blip

    assert embed.run(load_config()).metrics["pictures_per_second"] > 0
    whole = {p.name: p.read_bytes() for p in EMBEDDINGS.iterdir()}
    for file in EMBEDDINGS.iterdir():
        file.unlink()
    monkeypatch.setattr(Blip, "encode", None)  # nothing is left to do
    assert "pictures_per_second" not in run_stage(embed, load_config()).metrics
    assert {p.name: p.read_bytes() for p in EMBEDDINGS.iterdir()} == whole
    assert not list(Path(".cache/abo-vqa/embed").iterdir())


def test_a_disk_without_room_is_one_message_before_the_work(here: Path, monkeypatch) -> None:
    """Also where the system can't reserve room, and where the outputs are on another disk."""
    import shutil
    from types import SimpleNamespace

    from abo_vqa.core.system_errors import NoSpaceError, describe_system_error
    from abo_vqa.models.blip.model import Blip
    from abo_vqa.models.embeddings.builder import EmbeddingBuilder

    monkeypatch.delattr("os.posix_fallocate", raising=False)
    monkeypatch.setattr(Blip, "encode", None)  # nothing is encoded
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=7000))
    with pytest.raises(NoSpaceError) as refused:
        run_stage(embed, with_embed(load_config(), batch_size=5))
    said = describe_system_error(refused.value)
    assert (
        "vectors.npy: no space left on device; it takes 7,168 bytes, 7,000 bytes are free" in said
    )
    other = here.parent / "another-disk"
    other.mkdir()
    monkeypatch.setattr(
        "abo_vqa.models.embeddings.builder.device_of",
        lambda path: int(other in [path, *path.parents]),
    )
    monkeypatch.setattr(
        shutil, "disk_usage", lambda place: SimpleNamespace(free=0 if place == other else 10**9)
    )
    with pytest.raises(NoSpaceError, match=r"another-disk/vectors\.npy"):
        EmbeddingBuilder(here, (11, 5, 32), "float32", other)


def test_vectors_are_mapped_and_not_read(here: Path) -> None:
    run_stage(embed, load_config())
    assert isinstance(EmbeddingStore.open(EMBEDDINGS).vectors, np.memmap)


@pytest.mark.parametrize(
    ("keep", "reason"),
    [(0, "No data left"), (100, "EOF"), (-20, "mmap"), (None, "7 vectors for 2")],
)
def test_a_damaged_store_is_one_message(tmp_path: Path, keep: int | None, reason: str) -> None:
    file = tmp_path / "vectors.npy"
    np.save(file, np.ones((7 if keep is None else 2, 5, 8), np.float32))
    file.write_bytes(file.read_bytes()[:keep])
    (tmp_path / "paths.csv").write_text("image_path,error\na.jpg,\nb.jpg,\n")
    (tmp_path / "meta.json").write_text('{"dtype": "float32"}')
    with pytest.raises(UserError, match=f"damaged or incomplete .*{reason}.*run the stage `embed`"):
        EmbeddingStore.open(tmp_path)


def test_missing_store(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run the stage `embed`"):
        EmbeddingStore.open(tmp_path)


def test_memory_too_short_for_a_picture_is_told_and_nothing_lost(here: Path, monkeypatch) -> None:
    """Out of memory in the background is none yet: only what doesn't fit alone is."""
    from abo_vqa.models.blip.model import Blip

    config = with_embed(load_config(), batch_size=3)
    see, prepare = Blip.encode, Blip.preprocess
    calls: list[str] = []

    def prepared(self, pictures):
        calls.append("prepare")
        if len(calls) == 1:
            raise MemoryError
        return prepare(self, pictures)

    def seen(self, pixels):
        calls.append("see")
        if calls.count("see") >= 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return see(self, pixels)

    with monkeypatch.context() as patch:
        patch.setattr(Blip, "preprocess", prepared)
        patch.setattr(Blip, "encode", seen)
        with pytest.raises(UserError, match="out of memory with a single image"):
            run_stage(embed, config)
    counted: list[int] = []
    monkeypatch.setattr(Blip, "encode", lambda self, p: counted.append(len(p)) or see(self, p))
    run_stage(embed, config)
    assert sum(counted) == 10 - 6  # two blocks of three were kept; one picture is broken


def test_the_digest_is_the_vectors(here: Path) -> None:
    """Whatever one picture's outputs are, meta.json and what depends on it say so."""
    from abo_vqa.models.embeddings.builder import EmbeddingBuilder

    vectors = np.random.default_rng(0).normal(size=(6, 2, 3)).astype(np.float32)

    def digest(name: str, values: np.ndarray, size: int = 2, stop: int = 6) -> str:
        for at in range(0, stop, size):
            builder = EmbeddingBuilder(here / name, values.shape, "float32", here)
            if builder.done == at // size:  # a process of its own for every block
                block = range(at, at + size)
                builder.add({i: values[i] for i in reversed(block)}, {})
        return builder.digest

    for name in ("a", "b", "c", "d"):
        (here / name).mkdir()
    whole = digest("a", vectors)
    assert digest("b", vectors, stop=2) != whole
    assert digest("b", vectors) == whole
    assert digest("d", vectors, size=3) == whole  # however many pictures were seen at a time
    other = vectors.copy()
    other[3, 1, 1] += 1e-6
    assert digest("c", other) != whole


def test_a_model_that_can_only_be_asked_is_refused(here: Path, monkeypatch) -> None:
    monkeypatch.setattr(encoding, "load_checkpoint", lambda checkpoint, config: Constant())
    with pytest.raises(UserError, match=r"^models\.blip \(.*\) can be asked but not fine-tuned: "):
        run_stage(embed, load_config())


def test_other_pictures_under_the_same_names_start_over(here: Path) -> None:
    config = load_config()
    paths = sorted(set(read_table("data/vqa.csv")["image_path"]))
    meta = {"model": "any"}
    before = build.embedding_key(config, paths, meta)
    picture = here / config.data.raw / "images/small" / paths[0]
    kept = picture.read_bytes()
    try:
        picture.write_bytes(kept + b" ")
        assert build.embedding_key(config, paths, meta) != before
    finally:
        picture.write_bytes(kept)
    assert build.embedding_key(config, paths, meta) == before
