"""The study's rules: which entry counts, and which rows are dropped."""

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abo_vqa.cli import main
from abo_vqa.core.errors import UserError
from abo_vqa.core.tables import read_table
from abo_vqa.data.curation import describe_curation
from abo_vqa.data.listings import FieldValue
from abo_vqa.data.rules import any_en, first_en, joined_keywords
from abo_vqa.data.study import STUDY_CONFIG
from tests.support.archives import english, listing, write_shop
from tests.support.curation import curated, names, shop

FIVE = ["image_path", "name", "product_type", "color", "keywords"]


@pytest.mark.parametrize(
    ("field", "first", "any_"),
    [
        (None, "", ""),
        ("plain", "plain", "plain"),
        ([], "", ""),
        ([("A", "en_US")], "A", "A"),
        ([("A", "en_US"), ("B", "en_GB")], "A", "A"),
        ([("A", "de_DE")], "", ""),
        ([("A", "de_DE"), ("B", "en_GB")], "", "B"),
        ([("A", None)], "A", "A"),
        ([("A", None), ("B", "en_GB")], "A", "B"),
        ([("A", "en")], "", "A"),  # the study asks for "en_"
        ([("A", "")], "", ""),
        ([("", "en_US"), ("B", "en_GB")], "", "B"),
        ([(None, None), ("B", None)], "", "B"),
    ],
)
def test_which_entry_of_a_field_counts(field, first, any_):
    if isinstance(field, list):
        field = [FieldValue(*entry) for entry in field]
    assert (first_en(field), any_en(field)) == (first, any_)


@pytest.mark.parametrize(
    ("values", "joined"),
    [
        (
            [("Lamp", "en_US"), ("lamp ", "en_GB"), (" LIGHT", None), ("Lampe", "de_DE")],
            "lamp, light",
        ),
        ([("b", "en"), ("a", "en_US"), ("b", "en_AU")], "b, a"),
        ([(" ", "en_US"), ("", None), (None, None)], ""),
        ([("naïve, two", "en_US")], "naïve, two"),
        ([("a\0b", "en_US")], "a, b"),
    ],
)
def test_keywords(values, joined):
    assert joined_keywords([FieldValue(*v) for v in values]) == joined


def test_keywords_that_are_text_or_missing():
    assert joined_keywords(" Desk Lamp ") == "desk lamp"
    assert joined_keywords(None) == ""


def test_a_later_listing_overwrites_an_earlier_one_even_if_it_is_worse(tmp_path):
    shards = {
        "f": [listing("1", item_name=english("last"))],
        "0": [listing("1"), listing("2", item_name=english("kept")), listing("3")],
        "8": [listing("3", item_name=english("Letzte", "de_DE"))],
    }
    images = {"1": "a/1.jpg", "2": "a/2.jpg", "3": "a/3.jpg"}
    result = curated(write_shop(tmp_path / "raw", shards, images))
    assert names(result) == ["last", "kept"]
    assert result.funnel["listings"]["overwritten"] == 2
    assert result.funnel["dropped"] == {"no_name": 1}


def reference(shards, images, cap):
    """The rules in facts' words, on plain JSON: [rows of the five columns, before and after]."""

    def value(field):
        if not isinstance(field, list):
            return field
        if not field:
            return None
        if "language_tag" in field[0]:
            return field[0]["value"] if field[0]["language_tag"].startswith("en_") else None
        return field[0]["value"]

    latest = {}
    for _, items in sorted(shards.items()):
        for item in items:
            if "main_image_id" in item:
                latest[item["main_image_id"]] = item
    rows = []
    for image, path in images.items():
        item = latest.get(image)
        if item is None or image in STUDY_CONFIG.excluded_images:
            continue
        fields = [value(item.get(name)) for name in ("item_name", "product_type", "color")]
        words = []
        for entry in item.get("item_keywords", []):
            if entry.get("language_tag", "en").startswith("en"):
                word = entry["value"].strip().lower()
                if word and word not in words:
                    words.append(word)
        if all(fields) and words and all(text.isascii() for text in fields):
            rows.append([path, *(text.lower() for text in fields), ", ".join(words)])
    table = pd.DataFrame(sorted(rows), columns=FIVE, dtype=object)
    parts = []
    for kind in sorted(set(table["product_type"])):
        group = table[table["product_type"] == kind]
        parts.append(group.sample(cap, random_state=42) if len(group) > cap else group)
    kept = pd.concat(parts).sort_values("image_path") if parts else table
    return table, kept.reset_index(drop=True)


texts = st.sampled_from(["Red", "RED ", "dark red", "røt", "", "商品", "İ", "ΣΑΣ", "a, b"])


tags = st.sampled_from(["en_US", "en_GB", "en", "de_DE", "ja_JP", None])


entries = st.builds(
    lambda value, tag: {"value": value} | ({"language_tag": tag} if tag else {}), texts, tags
)


fields = st.one_of(
    st.lists(entries, max_size=3), st.just([{"language_tag": "en_US", "value": "Lamp"}]), texts
)


dirty = st.fixed_dictionaries(
    {},
    optional={
        "main_image_id": st.sampled_from([*map(str, range(12)), *STUDY_CONFIG.excluded_images[:1]]),
        "item_name": fields,
        "product_type": st.sampled_from([[{"value": "LAMP"}], [{"value": "Shoe"}], "SOFA", []]),
        "color": fields,
        "item_keywords": st.lists(entries, min_size=1, max_size=4),
    },
)


usual = st.builds(
    lambda image, name: listing(str(image), item_name=english(name)), st.integers(0, 11), texts
)


@settings(max_examples=60, deadline=None)
@given(
    shards=st.dictionaries(
        st.sampled_from("0a5f"), st.lists(st.one_of(dirty, usual), max_size=12), min_size=1
    ),
    cap=st.integers(1, 4),
)
def test_any_catalogue_is_curated_by_the_rules(tmp_path_factory, shards, cap):
    if not any(shards.values()):
        return
    images = {str(i): f"{(i * 7) % 13:02x}/{i:08x}.jpg" for i in range(10)}
    images["unused"] = "ff/unused.jpg"
    images[STUDY_CONFIG.excluded_images[0]] = "00/excluded.jpg"
    raw = write_shop(tmp_path_factory.mktemp("shop"), shards, images, pictures={})
    clean, kept = reference(shards, images, cap)
    if kept.empty:
        with pytest.raises(UserError, match="no row is left"):
            curated(raw, cap=cap)
        return
    result = curated(raw, cap=cap)
    assert result.balanced[FIVE].to_numpy().tolist() == kept.to_numpy().tolist()
    funnel = result.funnel
    assert funnel["clean"] == len(clean)
    assert funnel["images"] == sum(funnel["dropped"].values()) + funnel["balanced"]
    # The other rule's count is what choosing it would have given.
    other = curated(raw, cap=cap, language="any_en").funnel
    assert funnel["language"] == other["language"]
    assert other["clean"] == funnel["language"]["any_en"]


def test_only_images_in_the_table_count_and_each_once(tmp_path):
    listings = [listing(i) for i in ("1", "2", "3", "6", "nowhere")]
    table = (
        "image_id,height,width,path\n1,9,9,b/1.jpg\n2,9,9,a/2.jpg\n1,9,9,c/again.jpg\n"
        "3,9,9,a/2.jpg\n4,9,9,d/4.jpg\n,9,9,e/5.jpg\n6,9,9,\n6,9,9,f/6.jpg\n"
    )
    result = curated(write_shop(tmp_path / "raw", listings, table, pictures={}))
    assert result.balanced["image_path"].tolist() == ["a/2.jpg", "b/1.jpg", "f/6.jpg"]
    assert result.funnel["images"] == 8
    assert result.funnel["dropped"] == {
        "duplicate_image_id": 1, "duplicate_path": 1, "no_image_id_or_path": 2, "no_metadata": 1,
    }  # fmt: skip
    assert result.funnel["listings"]["unknown_image"] == 2


def test_every_reason_to_drop_a_row_is_counted(tmp_path):
    listings = [
        listing("ok"),
        listing("1", item_name=None),
        listing("2", product_type=None),
        listing("3", color=english("Rot", "de_DE")),
        listing("4", item_keywords=english("Licht", "de_DE")),
        listing("5", item_name=english("Lámpara")),
        listing("6", product_type=[{"value": "LÁMPARA"}]),
        listing("7", color=english("Röt")),
        listing(STUDY_CONFIG.excluded_images[0]),
        listing(None),
        "{broken",
    ]
    images = {x["main_image_id"]: f"{i}.jpg" for i, x in enumerate(listings[:9])}
    result = curated(write_shop(tmp_path / "raw", listings, images | {"bare": "z.jpg"}))
    assert result.funnel["dropped"] == {
        "excluded": 1, "no_color": 1, "no_keywords": 1, "no_metadata": 1, "no_name": 1,
        "no_product_type": 1, "non_ascii_color": 1, "non_ascii_name": 1,
        "non_ascii_product_type": 1,
    }  # fmt: skip
    assert result.funnel["listings"] == {
        "read": 10, "broken": 1, "without_image": 1, "unknown_image": 0, "overwritten": 0,
    }  # fmt: skip
    assert result.broken.first == ["listings_0.json.gz line 11: {broken"]


def test_parameters_change_what_counts(tmp_path):
    listings = [
        listing("1", color=None),
        listing("2", color=english("Röt")),
        listing("3", item_name=[*english("名前", "ja_JP"), *english("English")]),
    ]
    raw = shop(tmp_path, listings)
    with pytest.raises(UserError, match=r"no row is left of 3 images .*no_color 1, no_name 1"):
        curated(raw)
    without_color = curated(raw, required=("name", "product_type", "keywords"))
    assert without_color.balanced["color"].tolist() == ["", ""]
    english_anywhere = curated(raw, language="any_en")
    assert names(english_anywhere) == ["english"]
    assert english_anywhere.funnel["language"]["gained_by_any_en"] == 1
    assert "any_en would add 1 clean" in describe_curation(english_anywhere, "first_en")
    assert "would add" not in describe_curation(english_anywhere, "any_en")
    with pytest.raises(UserError, match="excluded 1"):
        curated(raw, language="any_en", excluded_images=("3",))


def test_a_field_that_is_text_instead_of_a_list(tmp_path):
    raw = shop(tmp_path, [listing("1", item_name="Plain", color="Blue", item_keywords="Desk")])
    row = curated(raw).balanced.iloc[0]
    assert (row["name"], row["color"], row["keywords"]) == ("plain", "blue", "desk")


def test_none_and_other_words_that_look_like_missing_values_survive(tmp_path):
    raw = shop(tmp_path, [listing("1", item_name=english("NA"), color=english("None"))])
    assert main(["curate", "--raw", str(raw), "--out", str(tmp_path / "out.csv")]) == 0
    row = read_table(tmp_path / "out.csv").iloc[0]
    assert (row["name"], row["color"]) == ("na", "none")
