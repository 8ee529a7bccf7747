"""The catalogue: as large, as ABO-shaped and as dirty as it is meant to be."""

import collections
import gzip
import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image
from sample.__main__ import SEED
from sample.archives import IMAGES, LISTINGS, add, images_csv, jpeg, packed
from sample.dirt import draw_catalogue

from tests.support import ROOT

RAW = ROOT / "data" / "raw" / "sample"


@pytest.fixture(scope="module")
def catalogue():
    return draw_catalogue(SEED)


@pytest.fixture(scope="module")
def listings(catalogue):
    """Every line that parses."""
    found = []
    for line in (line for shard in catalogue.shards for line in shard):
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


def test_one_seed_one_catalogue(catalogue):
    again = draw_catalogue(SEED)
    assert again.shards == catalogue.shards
    assert again.pictures == catalogue.pictures
    assert draw_catalogue(SEED + 1).shards != catalogue.shards


def test_size_and_types(catalogue, listings):
    types = collections.Counter(
        e["product_type"] if isinstance(e["product_type"], str) else e["product_type"][0]["value"]
        for e in listings
        if "product_type" in e
    )
    assert len(listings) >= 500
    assert len(types) >= 24
    assert len(catalogue.shards) == 16
    assert types["CELLULAR_PHONE_CASE"] > 2 * 40
    assert min(types.values()) >= 20


def test_every_kind_of_dirt_is_there(catalogue, listings):
    lines = [line for shard in catalogue.shards for line in shard]
    assert lines.count("") == 1
    assert len(lines) - len(listings) == 2
    for field in ("color", "item_name", "item_keywords", "product_type", "main_image_id"):
        assert any(field not in e for e in listings)
    first = [e["item_name"][0] for e in listings if "item_name" in e]
    assert any(not e["language_tag"].startswith("en_") for e in first)
    assert any(not e["value"].isascii() for e in first if e["language_tag"].startswith("en_"))
    second = [e["item_name"][1:] for e in listings if "item_name" in e]
    assert any(rest and rest[0]["language_tag"] == "en_US" for rest in second)
    main = collections.Counter(e.get("main_image_id") for e in listings)
    assert sum(n > 1 for name, n in main.items() if name) >= 30
    listed = {p.image_id for p in catalogue.pictures if p.listed}
    assert set(main) - listed - {None}
    assert listed - set(main)
    by_item = collections.defaultdict(set)
    for e in listings:
        by_item[e["item_id"]].add(e.get("main_image_id"))
    assert sum(len(images) > 1 for images in by_item.values()) >= 30
    looks = collections.Counter(p.look for p in catalogue.pictures)
    assert sum(n > 1 for n in looks.values()) >= 30
    assert {p.damage for p in catalogue.pictures} == {"", "truncated", "empty", "absent"}
    assert any(not p.listed for p in catalogue.pictures)
    assert {"518Dk4F0zZL", "719hoe+0vIL", "71Qbh8wmhnL"} <= listed


def test_attributes_say_what_is_drawn(catalogue, listings):
    looks = {p.image_id: p.look for p in catalogue.pictures}
    checked = 0
    for e in listings:
        look = looks.get(e.get("main_image_id"))
        if look is None or "color" not in e:
            continue
        assert e["color"][0]["standardized_values"] == [look.color.title()]
        for field in ("material", "pattern"):
            if field in e:
                assert e[field][0]["value"].lower() == getattr(look, field)
        checked += 1
    assert checked > 800


def test_colours_and_materials_are_not_skewed_within_a_type(catalogue):
    colors = collections.Counter(p.look.color for p in catalogue.pictures)
    assert max(colors.values()) < 2 * min(colors.values())
    cases = [p.look for p in catalogue.pictures if p.look.kind == "CELLULAR_PHONE_CASE"]
    assert max(collections.Counter(look.material for look in cases).values()) < 0.4 * len(cases)


def test_archive_members_carry_no_dates():
    blobs = []
    for _ in range(2):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            add(tar, "a/b.gz", packed("text\n"))
        blobs.append(out.getvalue())
    assert blobs[0] == blobs[1]
    with tarfile.open(fileobj=io.BytesIO(blobs[0])) as tar:
        (member,) = tar.getmembers()
    assert (member.mtime, member.uid, member.uname) == (0, 0, "")
    assert gzip.decompress(packed("é")) == "é".encode()


def test_damaged_pictures(catalogue):
    damaged = {p.damage: p for p in catalogue.pictures if p.damage}
    assert jpeg(damaged["empty"]) == b""
    with pytest.raises(OSError, match="truncated"):
        Image.open(io.BytesIO(jpeg(damaged["truncated"]))).load()


def test_shipped_archives_are_what_the_code_draws(catalogue):
    with tarfile.open(RAW / LISTINGS) as tar:
        names = tar.getnames()
        assert names == [f"listings/metadata/listings_{d}.json.gz" for d in "0123456789abcdef"]
        shipped = gzip.decompress(tar.extractfile(names[7]).read()).decode()
    assert shipped == "".join(line + "\n" for line in catalogue.shards[7])
    with tarfile.open(RAW / IMAGES) as tar:
        table = gzip.decompress(tar.extractfile("images/metadata/images.csv.gz").read()).decode()
        assert table == images_csv(catalogue.pictures)
        names = {n.removeprefix("images/small/") for n in tar.getnames()[1:]}
        assert names == {p.path for p in catalogue.pictures if p.damage != "absent"}
        for picture in [p for p in catalogue.pictures if not p.damage][:5]:
            member = tar.extractfile(f"images/small/{picture.path}")
            shipped = np.asarray(Image.open(member).convert("RGB"), dtype=int)
            fresh = np.asarray(Image.open(io.BytesIO(jpeg(picture))).convert("RGB"), dtype=int)
            # Another version of the imaging library may round differently.
            assert shipped.shape == (256, 256, 3)
            assert np.abs(shipped - fresh).mean() < 1.5
