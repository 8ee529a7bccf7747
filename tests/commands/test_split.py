"""`abo-vqa split` and the stage: what they write, and mistakes."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from abo_vqa.cli import main
from abo_vqa.commands import split as split_command
from abo_vqa.core.config import load_config
from abo_vqa.core.errors import UserError
from abo_vqa.core.json_files import read_json
from abo_vqa.core.tables import read_table, write_table
from abo_vqa.data.assignment import fold_ratio
from abo_vqa.stages import split as split_module
from tests.support import ROOT
from tests.support.splitting import catalogue, chosen, vqa


@pytest.mark.parametrize(
    ("share", "folds"),
    [
        (0.2, (1, 5)),
        (0.25, (1, 4)),
        (0.15, (3, 20)),
        (0.5, (1, 2)),
        (0.01, (1, 100)),
        (0.99, (19, 20)),
    ],
)
def test_a_share_as_folds(share, folds):
    assert fold_ratio(share) == folds


def test_the_stage_writes_both_sides_and_the_audit(tmp_path, monkeypatch):
    config = load_config(ROOT / "params.yaml")
    monkeypatch.chdir(tmp_path)
    table = vqa(catalogue())
    write_table(table, "data/vqa.csv")
    summary = split_module.run(config)
    train, test, found = (
        read_table("data/train.csv"),
        read_table("data/test.csv"),
        read_json("data/audit.json"),
    )
    assert len(train) + len(test) == len(table)
    assert set(found["shared"].values()) == {0}
    assert found["groups"]["largest_images"] >= 2
    assert summary.metrics["rows/test"] == len(test)
    assert train["row_id"].astype(int).is_monotonic_increasing
    whole = table.iloc[test["row_id"].astype(int)]
    assert whole.to_numpy().tolist() == test[table.columns].to_numpy().tolist()
    before = Path("data/test.csv").read_bytes()
    split_module.run(config)
    assert Path("data/test.csv").read_bytes() == before


def test_sides_that_share_a_group_are_refused_before_they_are_written(
    tmp_path, monkeypatch, capsys
):
    config = load_config(ROOT / "params.yaml")
    monkeypatch.chdir(tmp_path)
    table = vqa(catalogue())
    write_table(table, "data/vqa.csv")
    leaking = (np.arange(0, len(table), 2), np.arange(1, len(table), 2))
    for caller in (split_module, split_command):
        monkeypatch.setattr(caller, "split_rows", lambda *_args, **_options: leaking)
    with pytest.raises(UserError, match="train and test share"):
        split_module.run(config)
    assert main(["split", "--vqa", "data/vqa.csv", "--out", "data"]) == 2
    assert "train and test share" in capsys.readouterr().err
    assert {path.name for path in Path("data").iterdir()} == {"vqa.csv", "audit.json"}


def test_images_at_hand_suffice_for_near_duplicates(tmp_path, capsys):
    table = vqa(catalogue(40))
    for i, path in enumerate(table["image_path"].unique()):
        noise = np.random.default_rng(i).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / path)
    write_table(table[["image_path", "question", "answer"]], tmp_path / "vqa.csv")
    options = ["--vqa", str(tmp_path / "vqa.csv"), "--out", str(tmp_path / "out")]
    assert main(["split", *options]) == 2
    assert "--images DIR" in capsys.readouterr().err
    assert main(["split", *options, "--images", str(tmp_path)]) == 0


def test_a_plain_table_gets_its_provenance_from_the_balanced_one(tmp_path, capsys):
    table = vqa(catalogue())
    write_table(table[["image_path", "question", "answer"]], tmp_path / "vqa.csv")
    plain = ["split", "--vqa", str(tmp_path / "vqa.csv"), "--out", str(tmp_path)]
    assert main(plain) == 2
    said = capsys.readouterr().err
    assert "need the column(s) phash; the table has" in said
    assert "--balanced FILE or, if you have the images, --images DIR" in said
    assert "--group image" in said
    pictures = table.drop_duplicates("image_path").rename(columns={"image_path": "path"})
    write_table(pictures.drop(columns=["question", "answer"]), tmp_path / "balanced.csv")
    assert main([*plain, "--balanced", str(tmp_path / "balanced.csv")]) == 0
    made = read_table(tmp_path / "test.csv")
    assert {"item_id", "product_type", "image_sha1", "phash"} <= set(made.columns)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--vqa", "missing.csv", "--out", "."], "no table at missing.csv"),
        (["--vqa", "v.csv"], "must be given together"),
        (["--vqa", "v.csv", "--out", ".", "--test-size", "1.5"], "between 0 and 1"),
        (["--vqa", "v.csv", "--out", ".", "--distance", "65"], "0 to 32"),
        (["--vqa", "bad.csv", "--out", "."], "lacks the column answer"),
        (["--vqa", "empty.csv", "--out", ".", "--group", "image"], "no rows"),
        (["--vqa", "one.csv", "--out", ".", "--group", "image"], "can't be split"),
        (["--vqa", "v.csv", "--out", "."], "isn't 16 hex digits"),
        (["--vqa", "one.csv", "--out", ".", "--group", "product"], "one group"),
    ],
)
def test_mistakes_get_one_message(tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    table = vqa([("a.jpg", "B", "A", "s", "xyz"), ("b.jpg", "C", "A", "t", "00ff")])
    write_table(table, "v.csv")
    write_table(table.drop(columns="answer"), "bad.csv")
    write_table(table.head(0), "empty.csv")
    write_table(table[table["image_path"] == "a.jpg"], "one.csv")
    assert main(["split", *options]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("products", [2, 3, 4])
def test_fewer_groups_than_folds(products):
    table = vqa([(f"{i}.jpg", f"B{i % products}", "A", "", "") for i in range(9)])
    train, test = chosen(table, "product")
    assert min(len(train), len(test)) > 0
    assert not set(table["item_id"].iloc[train]) & set(table["item_id"].iloc[test])


def test_a_share_that_groups_make_impossible_is_said(tmp_path, capsys):
    big = [(f"{i:03d}.jpg", "same product", "A", "", "") for i in range(90)]
    write_table(
        vqa([*big, *((f"x{i}.jpg", f"B{i}", "A", "", "") for i in range(10))]), tmp_path / "v.csv"
    )
    command = [
        "split",
        "--vqa",
        str(tmp_path / "v.csv"),
        "--out",
        str(tmp_path),
        "--group",
        "product",
    ]
    assert main(command) == 0
    assert "20.0% of the rows were asked for test, 10.0% given" in capsys.readouterr().out


@pytest.mark.parametrize("size", ["0.001", "0.5", "0.66", "0.67", "0.9", "0.999"])
@pytest.mark.parametrize("kind", ["image", "product", "near-duplicate"])
@pytest.mark.parametrize("pictures", [1, 2, 3])
def test_tiny_tables_get_two_sides_or_one_message(tmp_path, capsys, size, kind, pictures):
    table = vqa([(f"{i}.jpg", f"B{i}", "A", "", "") for i in range(pictures)])
    write_table(table, tmp_path / "v.csv")
    command = ["split", "--vqa", str(tmp_path / "v.csv"), "--out", str(tmp_path), "--group", kind]
    code = main([*command, "--test-size", size])
    said = capsys.readouterr()
    if code:
        assert code == 2
        assert len(said.err.strip().splitlines()) == 1
    else:
        assert all(len(read_table(tmp_path / f"{side}.csv")) for side in ("train", "test"))


@pytest.mark.parametrize("prefix", ["images/small/", "/data/abo/small/", ""])
def test_the_balanced_table_is_joined_whatever_the_spelling(tmp_path, capsys, prefix):
    names = [f"{i:02x}/{i:08x}.jpg" for i in range(12)]
    hashes = [f"{i // 2 * 0x0123456789ABCD:016x}" for i in range(12)]  # pairs look alike
    known = pd.DataFrame({"path": names, "item_id": "", "image_sha1": "", "phash": hashes})
    known["item_id"] = [f"P{i}" for i in range(12)]
    known.to_csv(tmp_path / "balanced.csv", index=False)
    asked = pd.DataFrame({"img": [prefix + n for n in names], "query": "Is it?", "gt": "yes"})
    asked.to_csv(tmp_path / "vqa.csv", index=False)
    out = tmp_path / "out"
    files = ["--vqa", str(tmp_path / "vqa.csv"), "--balanced", str(tmp_path / "balanced.csv")]
    assert main(["split", *files, "--out", str(out)]) == 0
    assert "12 of 12 images found in the balanced table" in capsys.readouterr().out
    train, test = (
        set(pd.read_csv(out / f"{side}.csv", dtype=str)["phash"]) for side in ("train", "test")
    )
    assert not train & test
    asked.assign(img="nowhere.jpg").to_csv(tmp_path / "vqa.csv", index=False)
    assert main(["split", *files, "--out", str(out)]) == 2
    assert "none of the 1 images was found in the balanced table" in capsys.readouterr().err
