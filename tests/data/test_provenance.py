"""What a table lacks about its pictures comes from the balanced table and from the pictures."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from abo_vqa.cli import main
from abo_vqa.core.tables import read_table, write_table
from abo_vqa.data.archive import IMAGES_TAR
from abo_vqa.data.audit import audit_split
from abo_vqa.data.audit_text import describe_audit
from abo_vqa.data.image_decoding import phash, sha1
from abo_vqa.data.similarity_rule import SimilarityRule
from abo_vqa.data.splitting import split_rows
from tests.support.archives import jpeg, write_tar

NAMES = [f"{i:02x}/{i:08x}.jpg" for i in range(12)]


def pictures():
    """Six pictures, each as two files that look alike: compressed less and more."""
    return {name: jpeg(i // 2, quality=95 - i % 2 * 30) for i, name in enumerate(NAMES)}


def plain(names=NAMES, questions=2):
    rows = [(name, f"Question {q}?", "yes") for name in names for q in range(questions)]
    return pd.DataFrame(rows, columns=["image_path", "question", "answer"], dtype=object)


def folder(tmp_path, made, kind="folder"):
    """The pictures as a folder of files, as an extracted archive, or as ABO's archive."""
    root = tmp_path / "pictures"
    root.mkdir()
    if kind == "tar":
        write_tar(root / IMAGES_TAR, {f"images/small/{name}": data for name, data in made.items()})
        return root
    for name, data in made.items():
        path = root / ("images/small" if kind == "extracted" else ".") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def split(tmp_path, table, *options):
    write_table(table, tmp_path / "vqa.csv")
    files = ["--vqa", str(tmp_path / "vqa.csv"), "--out", str(tmp_path / "out")]
    return main(["split", *files, *map(str, options)])


def sides(tmp_path):
    return [read_table(tmp_path / "out" / f"{side}.csv") for side in ("train", "test")]


@pytest.mark.parametrize("kind", ["folder", "extracted", "tar"])
@pytest.mark.parametrize("prefix", ["", "images/small/", "/kaggle/input/abo/small/", "small\\"])
def test_a_plain_table_is_split_by_the_hashes_of_its_pictures(tmp_path, capsys, kind, prefix):
    made = pictures()
    root = folder(tmp_path, made, kind)
    table = plain([prefix + name for name in NAMES])
    assert split(tmp_path, table, "--images", root, "--seed", 3) == 0
    said = capsys.readouterr().out
    assert f"12 of 12 images found in {root}; 12 hashed" in said
    assert "6 groups by near-duplicate, the largest with 2 images" in said
    assert "shared products                not checked: the column isn't there" in said
    train, test = sides(tmp_path)
    for side in (train, test):
        numbers = {int(path[-12:-4], 16) // 2 for path in side["image_path"]}
        assert side["image_path"].nunique() == 2 * len(numbers)
    for row in test.itertuples():
        data = made[row.image_path[-15:].replace("\\", "/")]
        assert (row.image_sha1, row.phash) == (sha1(data), phash(data, "a.jpg"))


def test_what_cannot_be_hashed_is_said_and_nothing_is_hashed_twice(tmp_path, capsys):
    made = pictures()
    made[NAMES[0]] = b"no picture"
    del made[NAMES[11]]
    root = folder(tmp_path, made)
    assert split(tmp_path, plain(), "--images", root) == 0
    said = capsys.readouterr().out
    assert f"warning: 11 of 12 images found in {root}; not there: '{NAMES[11]}'" in said
    assert f"10 hashed, 1 can't be read ({NAMES[0]}: not a JPEG, PNG, WebP, GIF or BMP)" in said
    assert "shared near duplicate groups   0 (not checked for 2 images)" in said
    assert "look like one in train: 0 (not checked for 2 images)" in said
    assert "warning: 2 images have no perceptual hash and count as unlike" in said
    again = pd.concat(sides(tmp_path))
    assert split(tmp_path, again[again["phash"] != ""], "--images", root) == 0
    assert "all images already have hashes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (None, "no folder"),
        ({}, "none at all"),
        ({"zz/other.jpg": jpeg(1)}, "none of the 12 images was found in"),
        ({NAMES[0]: b"", NAMES[1]: b"GIF89a"}, "none of 2 images"),
    ],
)
def test_a_folder_without_the_pictures_is_refused(tmp_path, capsys, made, message):
    root = tmp_path / "nowhere" if made is None else folder(tmp_path, made)
    assert split(tmp_path, plain(), "--images", root) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def saved(image, form, **options):
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def bits(one, other):
    return (int(one, 16) ^ int(other, 16)).bit_count()


def test_ones_own_pictures_are_hashed_as_a_browser_shows_them():
    data = jpeg(5, side=256)
    image = Image.open(io.BytesIO(data))
    wanted = phash(data, "a.jpg")
    assert phash(data, "a.jpg", by_name=False) == wanted
    for form in ("PNG", "WEBP", "BMP"):
        assert bits(phash(saved(image, form, quality=95), "a.jpg", by_name=False), wanted) <= 4
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by whoever shows it
    turned = saved(image.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=95, exif=exif)
    assert bits(phash(turned, "a.jpg", by_name=False), wanted) <= 4
    assert bits(phash(turned, "a.jpg"), wanted) > 4  # in the archives: as stored
    shapes = []
    for seed in (1, 2):  # two black shapes whose transparent ground is black as well
        alpha = np.random.default_rng(seed).integers(0, 2, (8, 8), dtype=np.uint8) * 255
        black = Image.new("RGBA", (256, 256))
        black.putalpha(Image.fromarray(alpha).resize((256, 256), Image.Resampling.NEAREST))
        shapes.append(phash(saved(black, "PNG"), "a.png", by_name=False))
    assert bits(*shapes) > 4


def test_the_audit_hashes_pictures_too(tmp_path, capsys):
    root = folder(tmp_path, pictures())
    write_table(plain(NAMES[::2]), tmp_path / "train.csv")
    write_table(plain(NAMES[1::2]), tmp_path / "test.csv")
    files = ["--train", str(tmp_path / "train.csv"), "--test", str(tmp_path / "test.csv")]
    assert main(["audit", *files]) == 0  # nobody can tell
    assert main(["audit", *files, "--images", str(root)]) == 2
    said = capsys.readouterr()
    assert said.out.count(f"6 of 6 images found in {root}; 6 hashed") == 2
    assert "train and test share 6 near duplicate groups" in said.err
    known = pd.DataFrame({"path": NAMES, "item_id": [f"B{i // 2}" for i in range(12)]})
    write_table(known, tmp_path / "balanced.csv")
    assert main(["audit", *files, "--balanced", str(tmp_path / "balanced.csv")]) == 2
    assert "share 6 products" in capsys.readouterr().err


def test_the_balanced_table_fills_what_is_empty_and_changes_nothing_else(tmp_path, capsys):
    known = pd.DataFrame({"image_path": NAMES, "item_id": "K", "phash": "000000000000000F"})
    known["item_id"] = [f"K{i}" for i in range(12)]
    write_table(known, tmp_path / "balanced.csv")
    own = ["", "nan", "None", " ", *[f"{i:016x}" for i in range(8)]]
    table = plain(questions=1).assign(phash=own, item_id=[f"B{i}" for i in range(12)])
    assert split(tmp_path, table, "--balanced", tmp_path / "balanced.csv", "--distance", 0) == 0
    made = pd.concat(sides(tmp_path)).sort_values("image_path")
    assert made["phash"].tolist() == ["000000000000000f"] * 4 + own[4:]
    assert made["item_id"].tolist() == table["item_id"].tolist()
    write_table(known[["image_path"]], tmp_path / "balanced.csv")
    assert split(tmp_path, table, "--balanced", tmp_path / "balanced.csv") == 2
    assert "none of the columns image_id, item_id" in capsys.readouterr().err


@pytest.mark.parametrize("blank", ["nan", "None", " ", "NULL", "<NA>"])
def test_two_unknown_products_arent_one(tmp_path, capsys, blank):
    table = plain().assign(item_id=blank)
    assert split(tmp_path, table, "--group", "product") == 0
    said = capsys.readouterr().out
    assert "12 groups by product" in said
    assert "shared products                0 (not checked for 12 images)" in said


def test_rows_that_name_no_picture_are_refused_with_their_lines(tmp_path, capsys):
    table = plain([*NAMES, " ", "./"], questions=1)
    assert split(tmp_path, table, "--group", "image") == 2
    assert "2 row(s) name no image (lines 14, 15)" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["train.csv", "test.csv"])
def test_the_table_itself_is_never_overwritten(tmp_path, capsys, name):
    write_table(plain(), tmp_path / name)
    before = (tmp_path / name).read_bytes()
    files = ["--vqa", str(tmp_path / name), "--out", str(tmp_path)]
    assert main(["split", *files, "--group", "image"]) == 2
    assert "would be overwritten" in capsys.readouterr().err
    assert (tmp_path / name).read_bytes() == before


@pytest.mark.parametrize("seed", ["-1", str(2**32)])
def test_a_seed_that_numpy_refuses(tmp_path, capsys, seed):
    assert split(tmp_path, plain(), "--group", "image", "--seed", seed) == 2
    assert "0 to 4,294,967,295" in capsys.readouterr().err


def test_pictures_spelled_in_two_ways_and_hashed_in_some_rows_only():
    hashes = {name: f"{(i // 2 + 1) * 0x0123456789ABCD:016x}" for i, name in enumerate(NAMES)}
    table = plain(questions=3)
    table["phash"] = [hashes[name] for name in table["image_path"]]
    table.loc[1::3, "phash"] = ""
    table.loc[2::3, "image_path"] = ["images/small/" + n for n in table["image_path"][2::3]]
    chosen = []
    for seed in range(4):
        mixed = table.sample(frac=1, random_state=seed)
        rows = split_rows(mixed, "near-duplicate", 0.3, 1, rule=SimilarityRule(4), stratify=True)
        train, test = (mixed.iloc[r] for r in rows)
        found = audit_split(train, test, "near-duplicate", SimilarityRule(4))
        assert set(found["shared"].values()) == {0}
        assert found["unchecked"] == {"near_duplicate_groups": 0}
        assert found["images"]["train"] + found["images"]["test"] == 12
        assert found["near_duplicates"]["test_images"] == 0
        chosen.append(sorted(test.index))
    assert all(c == chosen[0] for c in chosen)


def test_a_share_is_missed_by_less_than_a_picture_without_a_word(tmp_path, capsys):
    table = plain(questions=1).assign(phash=[f"{i * 0x1234567890ABC:016x}" for i in range(12)])
    assert split(tmp_path, table) == 0
    assert "were asked for test" not in capsys.readouterr().out


def test_why_look_alikes_are_left_depends_on_the_kind_of_group():
    table = plain(NAMES[:4], 1).assign(item_id="", image_sha1="", phash="ff" + "0" * 14)
    found = audit_split(table[:2], table[2:], "product", SimilarityRule(4))
    assert "groups by near-duplicate keep nearly all" in describe_audit(found, "product")
    chain = table.assign(phash=[f"{0xFF << 56 | k:x}" for k in (0, 0x7, 0x3F, 0x1FF)])
    found = audit_split(
        chain[:3], chain[3:], "near-duplicate", SimilarityRule(4)
    )  # the middle of three is the centre
    assert found["shared"]["near_duplicate_groups"] == 0
    said = describe_audit(found, "near-duplicate")
    assert "warning: that is 100.0% of the test images; groups that touch were separated" in said
