"""The stage `embed` for images that differ in their number of tokens, after any kill."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from abo_vqa.core.config import load_config
from abo_vqa.core.errors import UserError
from abo_vqa.core.paths import embeddings_of
from abo_vqa.core.tables import read_table
from abo_vqa.data.archive import open_archive
from abo_vqa.models.causal.model import CausalVQAModel
from abo_vqa.models.embeddings.encodings import stored_encodings
from abo_vqa.models.embeddings.store import EmbeddingStore
from abo_vqa.models.registry import load_model
from abo_vqa.stages import embed
from abo_vqa.training.vision_cache import EncodedSource, VisionCache, cache_vision_outputs
from tests.support import workspaces
from tests.support.stages import run_stage
from tests.support.vlms import save_qwen2_5_vl

QWEN = embeddings_of("qwen")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven images of two proportions, and a tiny Qwen2.5-VL, which has more tokens for some."""
    root = workspaces.workspace(tmp_path_factory.mktemp("embed"), images=11, broken=1)
    save_qwen2_5_vl(root / "models/qwen")
    profile = root / "conf/profiles/sample.yaml"
    settings = yaml.safe_load(profile.read_text())
    settings["models"]["qwen"] = {
        "family": "chat", "path": "models/qwen", "prompt": "{question} answer in one word.",
    }  # fmt: skip
    profile.write_text(yaml.safe_dump(settings))
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["embed"]["batch_size"] = 3
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    return root


@pytest.fixture
def here(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(project)
    return project


def files() -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in QWEN.iterdir()}


def paths() -> list[str]:
    return sorted(set(read_table("data/vqa.csv")["image_path"]))[:10]  # the last doesn't decode


def test_what_is_stored_is_what_is_encoded(here: Path) -> None:
    config = load_config()
    summary = run_stage(embed, config, model="qwen")
    assert summary.metrics["unreadable"] == 1
    model = load_model("qwen", config)
    with open_archive(config.data.raw) as archive:
        encoded = [model.encode_images([archive.image(path)])[0] for path in paths()]
    assert len({len(image.features) for image in encoded}) == 2
    asked = [7, 2, 7, 0]
    wanted = [paths()[i] for i in asked]
    store = EmbeddingStore.open(QWEN)
    cache = cache_vision_outputs(store, paths(), CPU)
    assert isinstance(cache, VisionCache)
    stored = stored_encodings(config, "qwen")
    assert stored is not None
    loaded = stored.load(model, wanted[:2]).values
    for source in (store, cache):
        got = EncodedSource(source, model).get(wanted)
        assert source.token_counts(wanted) == [len(encoded[i].features) for i in asked]
        for i, image in zip(asked, got, strict=True):
            assert image.layout == encoded[i].layout
            torch.testing.assert_close(image.features, encoded[i].features)
        assert all(map(torch.equal, *([x.features for x in y] for y in (loaded, got[:2]))))
    assert len((QWEN / "texts.json").read_text().split("<|image_pad|>")) > 1


def test_killed_after_some_blocks_and_resumed(here: Path, monkeypatch) -> None:
    config = load_config()
    run_stage(embed, config, model="qwen")
    whole = files()
    encode, calls = CausalVQAModel.encode, []

    def dies(self, prepared):
        calls.append(len(prepared))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return encode(self, prepared)

    monkeypatch.setattr(CausalVQAModel, "encode", dies)
    with pytest.raises(KeyboardInterrupt):
        run_stage(embed, config, model="qwen")
    (folder,) = Path(".cache/abo-vqa/embed").iterdir()
    # As if it had been killed between writing the vectors and counting them, or in the count.
    with (folder / "vectors.npy").open("ab") as file:
        file.write(b"half a block")
    with (folder / "blocks.jsonl").open("ab") as file:
        file.write(b'{"digest": "')
    run_stage(embed, config, model="qwen")
    assert calls == [3, 3, 3, 3, 1]
    assert files() == whole


@pytest.mark.parametrize("damage", ["journal", "vectors", "no-vectors"])
def test_a_damaged_journal_starts_over(here: Path, damage: str, capsys) -> None:
    config = load_config()
    embed.run(config, model="qwen")
    whole = files()
    (folder,) = Path(".cache/abo-vqa/embed").iterdir()
    (QWEN / "vectors.npy").unlink()  # the same file under another name
    if damage == "journal":
        (folder / "blocks.jsonl").write_text('{"digest": ""}\n')
    elif damage == "vectors":
        (folder / "vectors.npy").write_bytes((folder / "vectors.npy").read_bytes()[:-8])
    else:
        (folder / "vectors.npy").unlink()
    run_stage(embed, config, model="qwen")
    assert "starting over" in capsys.readouterr().err
    assert files() == whole


def test_a_disk_without_room_is_told_after_the_first_block(here: Path, monkeypatch) -> None:
    import shutil
    from types import SimpleNamespace

    from abo_vqa.core.system_errors import NoSpaceError

    config = load_config()
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=100))
    encode, calls = CausalVQAModel.encode, []
    monkeypatch.setattr(
        CausalVQAModel, "encode", lambda self, p: (calls.append(len(p)), encode(self, p))[1]
    )
    with pytest.raises(NoSpaceError, match=r"vectors\.npy"):
        run_stage(embed, config, model="qwen")
    assert calls == [3]
    monkeypatch.undo()


def test_an_archive_without_a_readable_image(tmp_path: Path) -> None:
    from abo_vqa.models.embeddings.ragged import RaggedEmbeddingBuilder
    from abo_vqa.models.embeddings.store import write_description

    builder = RaggedEmbeddingBuilder(tmp_path, 2, "float32", tmp_path)
    builder.add({}, {"a.jpg": "empty", "b.jpg": "empty"}, {})
    builder.finish()
    write_description(
        tmp_path, ["a.jpg", "b.jpg"], builder.errors, {"dtype": "float32"}, builder.columns,
        builder.lines,
    )  # fmt: skip
    store = EmbeddingStore.open(tmp_path)
    assert list(store.errors) == ["a.jpg", "b.jpg"]
    assert store.get([]) == ()


def test_a_damaged_store_is_one_message(tmp_path: Path) -> None:
    np.save(tmp_path / "vectors.npy", np.ones((7, 8), np.float32))
    (tmp_path / "paths.csv").write_text("image_path,error,tokens,text\na.jpg,,3,0\nb.jpg,,3,0\n")
    (tmp_path / "meta.json").write_text('{"dtype": "float32"}')
    (tmp_path / "texts.json").write_text('{"lines": ["x"]}')
    with pytest.raises(UserError, match=r"7 tokens of 6.*run the stage `embed`"):
        EmbeddingStore.open(tmp_path)
