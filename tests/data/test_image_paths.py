import pytest

from abo_vqa.core.errors import UserError
from abo_vqa.data.image_paths import ImageIndex, image_key, unify_image_paths

KNOWN = ["fa/x.jpg", "14/14fe8812.jpg", "aa/z.jpg", "bb/z.jpg", "sofas/1.jpg", "lamps/1.jpg"]


@pytest.mark.parametrize(
    "spelling",
    [
        "fa/x.jpg", "images/small/fa/x.jpg", "/images/small/fa/x.jpg", "./fa/x.jpg", "fa//x.jpg",
        "/kaggle/input/a b/images/small/fa/x.jpg", "small\\fa\\x.jpg", "C:\\abo\\fa\\x.jpg",
        "abo-images-small/images/small\\fa/x.jpg", " fa/x.jpg ", "fa/x.JPG", "x.jpg", '"fa/x.jpg"',
        "file:///data/fa/x.jpg", "https://host/small/fa/x.jpg?size=1", "FA/X.JPG", "fa/x",
    ],
)  # fmt: skip
def test_one_picture_has_one_identity(spelling):
    assert ImageIndex(KNOWN).find(spelling) == "fa/x.jpg"


@pytest.mark.parametrize("path", ["z.jpg", "1.jpg", "fb/x.jpg", "chairs/1.jpg", "y.jpg", "", " "])
def test_what_could_be_several_or_none_is_not_guessed(path):
    assert ImageIndex(KNOWN).find(path) is None


def test_keys_need_no_index():
    keys = {image_key(p) for p in ("fa/x.jpg", "a/small/fa/x.JPG", "small\\fa\\x.jpg")}
    assert keys == {"fa/x.jpg"}


def test_match_counts_pictures_and_names_what_is_lost():
    index = ImageIndex(KNOWN)
    match = index.match(["fa/x.jpg", "small/fa/x.jpg", "nope.jpg", "z.jpg"])
    assert match.paths == ["fa/x.jpg", "fa/x.jpg", None, None]
    said = match.describe("balanced.csv")
    assert "1 of 3 images found in balanced.csv" in said
    assert "nope.jpg" in said
    assert "several could be meant: 'z.jpg'" in said
    match.require("balanced.csv", index)
    with pytest.raises(UserError, match=r"none of the 1 images.*'nope.jpg'.*'fa/x.jpg'"):
        index.match(["nope.jpg"]).require("balanced.csv", index)
    lost = ["COCO_val2014_000000000042.jpg"]
    with_others = ImageIndex(["README.md", "a/b.csv", "fa/x.PNG"])
    with pytest.raises(UserError, match=r"has e\.g\. 'fa/x\.PNG'.*VQAv2's numbers"):
        with_others.match(lost).require("images", with_others)
    tables = ImageIndex(["README.md"])
    with pytest.raises(UserError, match=r"has e\.g\. 'README\.md'\. Are they the same images\?$"):
        tables.match(["nope.jpg"]).require("images", tables)


def test_spellings_of_what_is_lost_are_one_picture_and_shown_as_they_are():
    lost = ["small\\fb\\y.jpg", "fb/y.jpg", " fb/y.JPG", "fc/w.jpg"]
    match = ImageIndex(KNOWN).match(["fa/x.jpg", *lost])
    assert not match.complete
    said = match.describe("balanced.csv")
    assert "1 of 3 images" in said
    assert said.endswith("not there: 'small\\fb\\y.jpg', 'fc/w.jpg'")


def test_tables_that_spell_paths_differently_name_the_same_pictures():
    train, test = unify_image_paths(
        ["fa/x.jpg", "x.jpg", "a/1.jpg", "b/1.jpg"],
        ["/d/small/fa/x.jpg", "a/1.jpg", "1.jpg", ""],
    )
    assert train[0] == train[1] == test[0]
    assert train[2] == test[1]
    assert len({train[2], train[3], test[2]}) == 3
    assert test[3] == ""
