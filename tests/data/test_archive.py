"""Listings and pictures read from the archives in place, and from a folder they came out of."""

import gzip
import io
import pickle
import tarfile

import pytest
from PIL import Image

from abo_vqa.core.errors import UserError
from abo_vqa.data import decompression
from abo_vqa.data.archive import open_archive
from abo_vqa.data.image_files import ImageError
from abo_vqa.data.listings import BrokenLines, FieldValue
from tests.support.archives import english, images_csv, jpeg, lines, listing, write_shop, write_tar

IMAGES = {"61a": "00/00000001.jpg", "61b": "0a/0a000002.jpg"}


def read(raw):
    broken = BrokenLines()
    with open_archive(raw) as archive:
        return list(archive.listings(broken)), broken


def test_listings_come_shard_by_shard_whatever_the_order_in_the_tar(tmp_path):
    shards = {"b": [listing("3")], "0": [listing("1"), listing("2")], "f": [listing("4")]}
    found, broken = read(write_shop(tmp_path, shards, IMAGES))
    assert [item.main_image_id for item in found] == ["1", "2", "3", "4"]
    assert found[0].item_name == [FieldValue("Name of 1", "en_US")]
    assert found[0].keywords() == [FieldValue("Light", "en_US"), FieldValue("bulb", "en_US")]
    assert found[0].product_type == [FieldValue("LAMP", None)]
    assert broken.count == 0


def test_broken_lines_are_counted_and_the_first_three_shown(tmp_path):
    good = listing("1")
    deep = '{"color": ' + "[" * 100_000
    bad = ['{"item_id": "B1", "col', "[1, 2]", "null", deep, "not json", b'{"color": "\xff\xfe"}']
    found, broken = read(write_shop(tmp_path, [good, *bad[:2], "", good, "   ", *bad[2:]], IMAGES))
    assert [item.main_image_id for item in found] == ["1", "1"]
    assert broken.count == len(bad)
    assert broken.first == [
        'listings_0.json.gz line 2: {"item_id": "B1", "col',
        "listings_0.json.gz line 3: [1, 2]",
        "listings_0.json.gz line 7: null",
    ]


def test_fields_of_other_types_are_understood_as_far_as_possible(tmp_path):
    odd = {
        "main_image_id": "1",
        "item_id": 7,
        "item_name": "plain text",
        "product_type": ["LAMP", "SHOE"],
        "color": {"language_tag": "en_US", "value": "Red"},
        "item_keywords": [english("a")[0], "b", 3, None, {"value": None}, [1]],
        "brand": 12.5,
        "material": True,
        "pattern": [{"language_tag": 5, "value": 6}],
        "style": [],
    }
    (found,), broken = read(write_shop(tmp_path, [odd], IMAGES))
    assert broken.count == 0
    assert (found.item_id, found.item_name, found.brand, found.material) == (
        "7", "plain text", "12.5", None,
    )  # fmt: skip
    assert found.product_type == [FieldValue("LAMP"), FieldValue("SHOE")]
    assert found.color == [FieldValue("Red", "en_US")]
    assert found.keywords() == [
        FieldValue("a", "en_US"),
        FieldValue("b"),
        FieldValue("3"),
        *[FieldValue()] * 3,
    ]
    assert found.pattern == [FieldValue("6", "5")]
    assert found.style == []


def test_keywords_of_another_type_do_not_spoil_a_listing_that_is_fine_otherwise(tmp_path):
    items = [listing("1", item_keywords=k) for k in ("plain", 5, [english("x")[0], 7])]
    found, broken = read(write_shop(tmp_path, items, IMAGES))
    assert [item.keywords() for item in found] == [
        "plain",
        "5",
        [FieldValue("x", "en_US"), FieldValue("7")],
    ]
    assert found[0].color == [FieldValue("Red", "en_US")]
    assert broken.count == 0


def test_half_of_a_character_becomes_a_question_mark(tmp_path):
    text = '{"main_image_id": "1", "item_name": "a\\ud800b"}'
    (found,), _ = read(write_shop(tmp_path, [text], IMAGES))
    assert found.item_name == "a?b"


@pytest.mark.parametrize("chunk", [1, 7, 64, 1000])
def test_lines_across_chunks_stay_whole(tmp_path, monkeypatch, chunk):
    items = [listing(str(i)) for i in range(20)]
    raw = write_shop(tmp_path, [*items[:9], "broken", *items[9:]], IMAGES)
    monkeypatch.setattr(decompression, "_CHUNK_SIZE", chunk)
    found, broken = read(raw)
    assert [item.main_image_id for item in found] == [str(i) for i in range(20)]
    assert broken.first == ["listings_0.json.gz line 10: broken"]


def test_a_last_line_without_an_end_counts(tmp_path):
    raw = write_shop(tmp_path, [listing("1")], IMAGES)
    text = lines([listing("1"), listing("2")]).rstrip(b"\n")
    name = "listings/metadata/listings_0.json.gz"
    write_tar(raw / "abo-listings.tar", {name: gzip.compress(text)})
    assert len(read(raw)[0]) == 2


@pytest.mark.parametrize("cut", ["end", "middle", "garbage", "nothing"])
def test_a_damaged_gzip_is_an_error_and_not_a_shorter_catalogue(tmp_path, cut):
    raw = write_shop(tmp_path, [listing(str(i)) for i in range(500)], IMAGES)
    good = gzip.compress(lines([listing(str(i)) for i in range(500)]))
    half = len(good) // 2
    bad = {
        "end": good[:-12],
        "middle": good[:half] + b"\0\1\2\3" + good[half + 4 :],
        "garbage": b"<html>",
        "nothing": b"",
    }[cut]
    write_tar(raw / "abo-listings.tar", {"listings/metadata/listings_0.json.gz": bad})
    with pytest.raises(UserError, match=r"listings_0\.json\.gz in .* is damaged"):
        read(raw)


def test_a_gzip_that_unpacks_without_end_is_refused(tmp_path, monkeypatch):
    raw = write_shop(tmp_path, [listing("1")], IMAGES)
    bomb = gzip.compress(b"[" * 5_000_000)
    write_tar(raw / "abo-listings.tar", {"listings/metadata/listings_0.json.gz": bomb})
    monkeypatch.setattr(decompression, "_MAX_UNPACKED_SIZE", 1_000_000)
    with pytest.raises(UserError, match="unpacks to more than 1,000,000 bytes"):
        read(raw)


def test_archives_without_any_listing(tmp_path):
    raw = write_shop(tmp_path, [], IMAGES)
    with pytest.raises(UserError, match="but no listing"):
        read(raw)
    write_tar(raw / "abo-listings.tar", {"README.md": b"hello"})
    with pytest.raises(UserError, match=r"holds no listings/metadata"):
        read(raw)
    write_tar(raw / "abo-listings.tar", {})
    with pytest.raises(UserError, match=r"holds no listings/metadata"):
        read(raw)


def test_the_table_of_images(tmp_path):
    with open_archive(write_shop(tmp_path, [listing("1")], IMAGES)) as archive:
        table = archive.image_table()
    assert table.columns.tolist() == ["image_id", "height", "width", "path"]
    assert table["image_id"].tolist() == ["61a", "61b"]
    assert table["width"].tolist() == [64, 64]
    assert table["path"].tolist() == list(IMAGES.values())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image_id,height,width\n61a,1,1\n", r"lacks the column\(s\) path; it has image_id"),
        ("id,path\n61a,x\n", r"lacks the column\(s\) image_id, height, width"),
        ("image_id,height,width,path\n61a,tall,1,x.jpg\n", "isn't a proper table"),
        ("image_id,height,width,path\n61a,1,1,x.jpg,extra\n", "isn't a proper table"),
        ("", "isn't a proper table"),
    ],
)
def test_a_table_of_images_that_is_none(tmp_path, text, message):
    raw = write_shop(tmp_path, [listing("1")], text, pictures={})
    with open_archive(raw) as archive, pytest.raises(UserError, match=message):
        archive.image_table()


def test_a_truncated_or_missing_table_of_images(tmp_path):
    raw = write_shop(tmp_path, [listing("1")], IMAGES)
    name = "images/metadata/images.csv.gz"
    packed = gzip.compress(images_csv({str(i): f"{i}.jpg" for i in range(999)}).encode())
    write_tar(raw / "abo-images-small.tar", {name: packed[:-20]})
    with open_archive(raw) as archive, pytest.raises(UserError, match=r"images\.csv\.gz in"):
        archive.image_table()
    write_tar(raw / "abo-images-small.tar", {"images/small/a.jpg": b""})
    with open_archive(raw) as archive, pytest.raises(UserError, match="holds no images/metadata"):
        archive.image_table()


def test_pictures_by_path(tmp_path):
    pictures = {
        "00/00000001.jpg": jpeg(1),
        "00/empty.jpg": b"",
        "00/text.jpg": b"<html>404</html>",
        "00/half.jpg": jpeg(2)[:900],
    }
    with open_archive(write_shop(tmp_path, [listing("1")], IMAGES, pictures)) as archive:
        assert archive.read("00/00000001.jpg") == pictures["00/00000001.jpg"]
        picture = archive.image("00/00000001.jpg")
        assert (picture.mode, picture.size) == ("RGB", (64, 64))
        for path, reason in {
            "00/empty.jpg": "empty file",
            "00/text.jpg": "not a JPEG",
            "00/half.jpg": "cut off or damaged",
            "00/none.jpg": "not in the archive",
            "../metadata/images.csv.gz": "not in the archive",
        }.items():
            with pytest.raises(ImageError) as error:
                archive.image(path)
            assert (error.value.path, error.value.reason) == (path, reason)
            assert str(pickle.loads(pickle.dumps(error.value))) == f"image {path}: {reason}"
        again = pickle.loads(pickle.dumps(archive))
        assert again.read("00/00000001.jpg") == pictures["00/00000001.jpg"]
        again.close()


@pytest.mark.parametrize("unzip", [False, True])
def test_extracted_archives_read_the_same(tmp_path, unzip):
    raw = write_shop(tmp_path / "raw", {"1": [listing("2")], "0": [listing("1")]}, IMAGES)
    out = tmp_path / "out"
    for name in ("abo-listings.tar", "abo-images-small.tar"):
        with tarfile.open(raw / name) as tar:
            tar.extractall(out, filter="data")
    if unzip:
        for packed in out.rglob("*.gz"):
            packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
            packed.unlink()
    with open_archive(raw) as left, open_archive(out) as right:
        assert [x.item_id for x in left.listings()] == [x.item_id for x in right.listings()]
        assert left.image_table().equals(right.image_table())
        for path in IMAGES.values():
            assert left.read(path) == right.read(path)
        with pytest.raises(ImageError):
            right.read("../../raw/abo-listings.tar")


def test_one_archive_packed_and_the_other_extracted(tmp_path):
    raw = write_shop(tmp_path, [listing("1")], IMAGES)
    with tarfile.open(raw / "abo-images-small.tar") as tar:
        tar.extractall(raw, filter="data")
    (raw / "abo-images-small.tar").unlink()
    with open_archive(raw) as archive:
        assert archive.image(IMAGES["61a"]).size == (64, 64)


def test_folders_without_archives_say_what_was_found_and_what_to_do(tmp_path):
    with pytest.raises(UserError, match=r"no folder .*make abo"):
        open_archive(tmp_path / "nope")
    with pytest.raises(
        UserError, match=r"neither abo-listings\.tar nor .*found: nothing.*make abo"
    ):
        open_archive(tmp_path)
    write_shop(tmp_path, [listing("1")], IMAGES)
    (tmp_path / "abo-images-small.tar").unlink()
    with pytest.raises(
        UserError, match=r"neither abo-images-small\.tar .*found: abo-listings\.tar"
    ):
        open_archive(tmp_path)


def test_a_truncated_tar(tmp_path):
    raw = write_shop(tmp_path, [listing("1")], IMAGES)
    path = raw / "abo-images-small.tar"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match="truncated"):
        open_archive(raw)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda data: data + b"x", r"1 byte\(s\) that aren't gzip follow its end"),
        (lambda data: data + data + b"<html>" * 9, r"54 byte\(s\) that aren't gzip follow"),
        (lambda data: data + b"\x1f\x8bjunk", r"6 byte\(s\) that aren't gzip follow its end"),
        (lambda data: b"<html>" + data, "it isn't gzip"),
        (lambda data: data + data[:-9], "ended before the end-of-stream marker"),
        (lambda data: data + bytes(512), ""),  # padding, which gzip allows
    ],
)
def test_what_follows_a_gzip_stream_is_told_apart_from_a_cut(tmp_path, change, told):
    text = b"line\n" * 5000
    data = change(gzip.compress(text))
    chunks = decompression.iter_decompressed(data, "a.json.gz", tmp_path)
    if told:
        with pytest.raises(UserError, match=told):
            b"".join(chunks)
    else:
        assert b"".join(chunks) == text


def test_a_turned_picture_is_upright_for_models_services_and_pages(tmp_path):
    for folder in ("listings/metadata", "images/metadata", "images/small/00"):
        (tmp_path / folder).mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = Image.new("RGB", (20, 30), (200, 0, 0))
    stored.save(tmp_path / "images/small/00/a.jpg", exif=exif)
    stored.save(tmp_path / "images/small/00/b.jpg")
    stored.save(tmp_path / "images/small/00/c.jpg", "WEBP")
    with open_archive(tmp_path) as archive:
        assert archive.image("00/a.jpg").size == (30, 20)
        sent = Image.open(io.BytesIO(archive.jpeg("00/a.jpg")))
        assert (sent.size, dict(sent.getexif())) == ((30, 20), {})
        assert archive.jpeg("00/b.jpg", 30) == archive.read("00/b.jpg")
        with pytest.raises(ImageError, match="not a JPEG"):
            archive.jpeg("00/c.jpg")
