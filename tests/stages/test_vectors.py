"""The stage `vectors`, and that every stage which groups images compares them by its vectors."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from abo_vqa.annotate.verification.blind import verification_groups
from abo_vqa.core.config import load_config
from abo_vqa.core.errors import UserError
from abo_vqa.core.paths import vectors_of
from abo_vqa.core.tables import read_table, write_table
from abo_vqa.data.archive import open_archive
from abo_vqa.data.image_vectors import read_image_vectors
from abo_vqa.data.similarity_rule import vector_digests
from abo_vqa.models.embeddings import build
from abo_vqa.models.registry import checkpoint_of, load_checkpoint
from abo_vqa.stages import split, vectors
from abo_vqa.training.validation import hold_out
from tests.support import workspaces


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = ("blip", "clip", "llava")
    root = workspaces.workspace(tmp_path_factory.mktemp("vectors"), *names, images=11, broken=1)
    (root / "data/vqa.csv").rename(root / "data/generated.csv")
    return root


@pytest.fixture
def here(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(project, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def set_split(**changes: object) -> None:
    file = Path("params.yaml")
    params = yaml.safe_load(file.read_text())
    params["split"] |= changes
    file.write_text(yaml.safe_dump(params))


@pytest.mark.parametrize("name", ["blip", "clip", "llava"])
def test_a_vector_is_the_mean_of_the_models_own_output(here: Path, name: str) -> None:
    config = load_config()
    summary = vectors.run(config, model=name)
    assert (summary.metrics["pictures"], summary.metrics["unreadable"]) == (11, 1)
    known = read_image_vectors(vectors_of(name))
    assert known.vectors.dtype == np.float32
    assert "00/0000000a.jpg" not in known.positions  # it can't be read
    assert len(known.positions) == 10
    np.testing.assert_allclose(np.linalg.norm(known.vectors, axis=1), 1, rtol=1e-5)
    model = load_checkpoint(checkpoint_of(name, config), config)
    with open_archive(config.data.raw) as archive, torch.inference_mode():
        for path in list(known.positions)[::4]:
            encoded = model.encode_images([archive.image(path)])[0]
            matrix = encoded if name == "clip" else model.split_encoded(encoded)[0].mean(0)
            expected = torch.nn.functional.normalize(matrix.float(), dim=0).numpy()
            np.testing.assert_allclose(known.vectors[known.positions[path]], expected, atol=1e-5)


def test_an_interrupted_run_goes_on(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config()
    config = config.model_copy(update={"embed": config.embed.model_copy(update={"batch_size": 3})})
    vectors.run(config, model="blip")
    expected = (vectors_of("blip") / "vectors.npy").read_bytes()
    digest = vector_digests(["blip"])
    shutil.rmtree(vectors_of("blip"))
    shutil.rmtree(here / ".cache", ignore_errors=True)
    add, calls = build.RaggedEmbeddingBuilder.add, []

    def interrupted(self, *args):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        add(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(build.RaggedEmbeddingBuilder, "add", interrupted)
        with pytest.raises(KeyboardInterrupt):
            vectors.run(config, model="blip")
    result = build.build_embeddings(
        config, "blip", sorted(set(read_table("data/generated.csv")["image_path"])),
        vectors_of("blip"), pooled=True,
    )  # fmt: skip
    assert result.encoded == 5
    assert (vectors_of("blip") / "vectors.npy").read_bytes() == expected
    assert vector_digests(["blip"]) == digest


@pytest.mark.parametrize(
    ("cosine", "message"),
    [
        ({"bilp": 0.9}, r"split\.cosine: found 'bilp'; allowed: blip, blip2, clip, llava$"),
        ({"vilt": 0.9}, "found 'vilt'; the family vilt has no vectors of images; allowed: blip"),
        (
            {"blip": 1.5},
            r"split\.cosine\.blip: found 1\.5; input should be less than or equal to 1",
        ),
        ({"blip": 0}, r"split\.cosine\.blip: found 0; input should be greater than 0"),
    ],
)
def test_wrong_settings_are_named(here: Path, cosine: dict[str, float], message: str) -> None:
    set_split(cosine=cosine)
    with pytest.raises(UserError, match=message):
        load_config()


def test_missing_vectors_are_the_users_problem(here: Path) -> None:
    shutil.copy("data/generated.csv", "data/vqa.csv")
    set_split(cosine={"blip": 0.9})
    with pytest.raises(UserError, match=r"abo-vqa vectors --model NAME"):
        split.run(load_config())


def pairs_in_a_folder(count: int = 20) -> pd.DataFrame:
    """Rows whose images are alike in pairs by the vectors in data/vectors/blip alone."""
    paths = [f"{i:02d}{side}.jpg" for i in range(count) for side in "ab"]
    folder = vectors_of("blip")
    folder.mkdir(parents=True)
    np.save(folder / "vectors.npy", np.repeat(np.eye(count, dtype=np.float32), 2, axis=0))
    write_table(pd.DataFrame({"image_path": paths}), folder / "paths.csv")
    hashes = [f"{np.random.RandomState(i).bytes(8).hex()}" for i in range(len(paths))]
    return pd.DataFrame(
        {
            "image_path": paths, "question": "what?", "answer": "red", "item_id": paths,
            "image_sha1": paths, "phash": hashes,
        }
    )  # fmt: skip


def test_split_validation_and_verification_keep_them_together(here: Path) -> None:
    table = pairs_in_a_folder()
    write_table(table, Path("data/vqa.csv"))
    stems = table["image_path"].str[:2]
    apart = []
    for cosine in ({}, {"blip": 0.95}):
        set_split(cosine=cosine)
        config = load_config()
        split.run(config)
        train, test = (
            {path[:2] for path in read_table(f"data/{side}.csv")["image_path"]}
            for side in ("train", "test")
        )
        rows, held_out = (set(stems.iloc[part]) for part in hold_out(table, config))
        groups = pd.Series(verification_groups(config, table))
        apart.append([len(train & test), len(rows & held_out), groups.nunique() - 20])
    assert min(apart[0]) > 0
    assert apart[1] == [0, 0, 0]


def test_images_of_a_product_are_held_out_together_without_hashes(here: Path) -> None:
    items = [f"B{i // 2}" for i in range(40)]
    table = pd.DataFrame({"image_path": [f"{i}.jpg" for i in range(40)], "item_id": items})
    rows, held_out = ({items[i] for i in part} for part in hold_out(table, load_config()))
    assert held_out
    assert not rows & held_out


def test_a_split_by_variant_keeps_names_for_validation(here: Path) -> None:
    """Two colours of each product: 6 bits apart."""
    table = pairs_in_a_folder()
    bits = [int(table["phash"][i - i % 2], 16) ^ (0x3F if i % 2 else 0) for i in range(len(table))]
    table = table.assign(phash=[f"{b:016x}" for b in bits])
    write_table(table, Path("data/vqa.csv"))
    names = [
        f"Lamp no{path[:2]} {'red' if 'a' in path else 'blue'}" for path in table["image_path"]
    ]
    colors = ["red" if "a" in path else "blue" for path in table["image_path"]]
    balanced = pd.DataFrame({"image_path": table["image_path"], "name": names, "color": colors})
    write_table(balanced, Path("data/balanced.csv"))
    set_split(group="variant")
    config = load_config()
    split.run(config)
    train, test = (read_table(f"data/{side}.csv") for side in ("train", "test"))
    assert not set(train["image_path"].str[:2]) & set(test["image_path"].str[:2])
    rows, held_out = (
        set(train["image_path"].iloc[part].str[:2]) for part in hold_out(train, config)
    )
    assert held_out
    assert not rows & held_out
