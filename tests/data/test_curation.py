"""Curation as a whole: balancing, images, the stage and the command."""

import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from abo_vqa.cli import main
from abo_vqa.core.config import load_config
from abo_vqa.core.errors import UserError
from abo_vqa.core.json_files import read_json
from abo_vqa.core.tables import read_table
from abo_vqa.data import curation
from abo_vqa.data.curation import BALANCED_COLUMNS, curate
from abo_vqa.data.study import STUDY_CONFIG
from abo_vqa.stages import curate as curate_module
from tests.support import ROOT
from tests.support.archives import english, jpeg, listing
from tests.support.curation import curated, names, shop

# --- balancing -----------------------------------------------------------------------------------


def typed(sizes):
    kinds = [kind for kind, n in sizes.items() for _ in range(n)]
    order = np.random.default_rng(0).permutation(len(kinds))
    return [listing(f"{i:04d}", product_type=[{"value": kinds[k]}]) for i, k in enumerate(order)]


def test_the_cap_samples_each_large_type_as_the_study_does(tmp_path):
    raw = shop(tmp_path, typed({"A": 50, "B": 7, "C": 1}))
    whole = curated(raw).balanced
    result = curated(raw, cap=7)
    assert result.types.to_numpy().tolist() == [["a", 50, 7], ["b", 7, 7], ["c", 1, 1]]
    a = whole[whole["product_type"] == "a"].sample(7, random_state=42)
    kept = result.balanced[result.balanced["product_type"] == "a"]
    assert sorted(a["image_path"]) == kept["image_path"].tolist()
    assert result.balanced["image_path"].is_monotonic_increasing
    assert result.funnel["dropped"] == {"over_cap": 43}
    assert names(curated(raw, cap=7, seed=1)) != names(result)


def test_a_temperature_really_flattens(tmp_path):
    raw = shop(tmp_path, typed({"A": 200, "B": 50, "C": 10, "D": 9, "E": 3}))

    def counts(**changes):
        result = curated(raw, **changes)
        return result.types["balanced"].tolist(), result.funnel["balance"]

    assert counts()[0] == [200, 50, 10, 9, 3]
    flat, balance = counts(balance="temperature", temperature=0.5)
    assert flat == [45, 23, 10, 9, 3]  # 10 * (200 / 10)^0.5 = 44.7
    assert balance["effective_types_after"] > balance["effective_types_before"]
    assert balance["largest_share_after"] < balance["largest_share_before"]
    assert counts(balance="temperature", temperature=1.0)[0] == [200, 50, 10, 9, 3]
    assert counts(balance="temperature", temperature=1e-6)[0] == [11, 11, 10, 9, 3]
    assert counts(balance="temperature", temperature=0.5, cap=30)[0] == [30, 23, 10, 9, 3]


# --- pictures ------------------------------------------------------------------------------------


def test_pictures_that_cannot_be_read_are_dropped_and_counted(tmp_path):
    images = {str(i): f"00/{i}.jpg" for i in range(6)}
    pictures = {
        "00/0.jpg": jpeg(0),
        "00/1.jpg": jpeg(0),
        "00/2.jpg": b"",
        "00/3.jpg": b"not a picture",
        "00/4.jpg": jpeg(4)[:900],
    }
    raw = shop(tmp_path, [listing(i) for i in images], images, pictures=pictures)
    result = curated(raw, pictures=True)
    assert result.balanced["image_path"].tolist() == ["00/0.jpg", "00/1.jpg"]
    assert result.funnel["dropped"] == {
        "picture_cut_off_or_damaged": 1, "picture_empty_file": 1, "picture_not_a_jpeg": 1,
        "picture_not_in_the_archive": 1,
    }  # fmt: skip
    assert result.balanced["image_sha1"].nunique() == 1
    assert result.balanced["phash"].str.fullmatch("[0-9a-f]{16}").all()
    with pytest.raises(UserError, match=r"no row is left .*picture_empty_file 1"):
        curated(shop(tmp_path / "b", [listing("2")], {"2": "a.jpg"}, pictures={"a.jpg": b""}), True)


def test_further_columns_are_there_for_later_stages(tmp_path):
    odd = listing(
        "1",
        brand=english("Rivington"),
        material=[*english("Holz", "de_DE"), *english("Wood")],
        pattern="Solid",
    )
    row = curated(shop(tmp_path, [odd]), pictures=True).balanced.iloc[0]
    assert row.index.tolist() == list(BALANCED_COLUMNS)
    assert (row["image_id"], row["item_id"]) == ("1", "B1")
    assert (row["brand"], row["material"], row["pattern"]) == ("rivington", "wood", "solid")
    assert row["style"] == ""


def test_shards_and_batches_of_images_can_be_dealt_to_other_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(curation, "HASH_BATCH", 4)
    shards = {
        "0": [listing("1"), listing("2", item_name=english("kept")), "{broken", "{too"],
        "8": [listing("3", item_name=english("Letzte", "de_DE")), listing(None), "{third"],
        "f": [listing("1", item_name=english("last")), "{fourth", *typed({"A": 9})],
    }
    ids = ["1", "2", "3", *(f"{i:04d}" for i in range(9))]
    images = {name: f"{i:02x}/{i}.jpg" for i, name in enumerate(ids)}
    raw = shop(tmp_path, shards, images, pictures={path: jpeg(0) for path in images.values()})
    dealt = []

    def run(function, batches):
        for batch in batches:
            dealt.append(batch)
            yield pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(function))(batch)))

    result, other = (curate(raw, STUDY_CONFIG, 42, run=way) for way in (map, run))
    pd.testing.assert_frame_equal(result.balanced, other.balanced)
    assert result.funnel == other.funnel
    assert result.broken == other.broken
    assert other.broken.first[2:] == ["listings_8.json.gz line 3: {third"]
    assert result.funnel["listings"] == {
        "read": 14, "broken": 4, "without_image": 1, "unknown_image": 0, "overwritten": 1,
    }  # fmt: skip
    assert [len(batch) for batch in dealt if isinstance(batch, list)] == [4, 4, 3]
    assert [batch[-9] for batch in dealt if isinstance(batch, str)] == ["0", "8", "f"]
    assert other.balanced["image_sha1"].nunique() == 1


# --- commands ------------------------------------------------------------------------------------


def test_the_stage_writes_the_table_the_types_and_the_funnel(tmp_path, monkeypatch):
    config = load_config(ROOT / "params.yaml")
    raw = shop(tmp_path, [*typed({"A": 9, "B": 2}), "{broken"])
    data = config.data.model_copy(update={"raw": raw})
    settings_ = STUDY_CONFIG.model_copy(update={"cap": 4})
    monkeypatch.chdir(tmp_path)
    summary = curate_module.run(config.model_copy(update={"data": data, "curate": settings_}))
    table, funnel = read_table("data/balanced.csv"), read_json("data/funnel.json")
    assert len(table) == funnel["balanced"] == summary.metrics["balanced"] == 6
    assert table.columns.tolist() == list(BALANCED_COLUMNS)
    assert read_table("data/types.csv").to_numpy().tolist() == [["a", "9", "4"], ["b", "2", "2"]]
    assert summary.metrics["dropped/over_cap"] == 5
    assert "1 line(s) aren't JSON objects" in summary.message
    before = {p.name: p.read_bytes() for p in Path("data").iterdir()}
    curate_module.run(config.model_copy(update={"data": data, "curate": settings_}))
    assert {p.name: p.read_bytes() for p in Path("data").iterdir()} == before


def test_the_command_on_any_folder(tmp_path, capsys):
    raw, out = shop(tmp_path, typed({"A": 9, "B": 2})), tmp_path / "deep" / "out.csv"
    assert main(["curate", "--raw", str(raw), "--out", str(out), "--cap", "4"]) == 0
    assert len(read_table(out)) == 6
    assert (
        "11 images → 11 with metadata → 11 clean → 6 balanced, 2 types" in capsys.readouterr().out
    )
    assert main(["curate", "--raw", str(raw), "--out", str(out), "--temperature", "0.5"]) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--raw", "nowhere", "--out", "x.csv"], "no folder nowhere"),
        (["--raw", "nowhere"], "must be given together"),
        (["--raw", ".", "--out", "x.csv", "--cap", "0"], "at least 1"),
        (["--raw", ".", "--out", "x.csv", "--temperature", "1.5"], "at most 1"),
    ],
)
def test_mistakes_get_one_message(tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    assert main(["curate", *options]) == 2
    assert message in capsys.readouterr().err


def test_the_embedded_sample_is_dirty_and_comes_out_clean():
    raw = ROOT / "data" / "raw" / "sample"
    if not (raw / "abo-listings.tar").exists():
        pytest.skip("the sample isn't here: dvc pull data/raw/sample")
    result = curated(raw, pictures=True, cap=60)
    funnel = json.loads(json.dumps(result.funnel))
    assert funnel["images"] == sum(funnel["dropped"].values()) + funnel["balanced"]
    assert funnel["listings"]["broken"] == 1
    assert funnel["types"] >= 20
    assert {"excluded", "no_name", "non_ascii_name", "over_cap"} <= set(funnel["dropped"])
    assert any(reason.startswith("picture_") for reason in funnel["dropped"])
