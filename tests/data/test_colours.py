"""Colour profiles, odd frames, and what the same file looks like in a real browser."""

import base64
import io
import json
import random

import numpy as np
import pytest
from PIL import Image, ImageOps

from abo_vqa.data.image_decoding import (
    TRANSPOSES,
    UnreadableImageError,
    browser_safe_file,
    browser_safe_jpeg,
    decode,
    phash,
)
from abo_vqa.reporting.pdf import find_browser
from tests.support import colour_profiles as profiles
from tests.support.chrome import chromium
from tests.support.images import (
    EXACT,
    RED,
    SRGB,
    WHITE,
    corpus,
    flag,
    gif,
    near,
    saved,
    stored,
    turned,
)


@pytest.mark.skipif(find_browser() is None, reason="no Chromium installed (nor BROWSER_PATH set)")
def test_as_a_browser_shows_it():
    kinds = {b"\xff\xd8": "jpeg", b"\x89P": "png", b"GI": "gif", b"RI": "webp"}
    script = """async source => {
      const image = new Image(); image.src = source; await image.decode();
      const canvas = document.createElement('canvas'), pen = canvas.getContext('2d');
      canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
      pen.fillStyle = 'white'; pen.fillRect(0, 0, canvas.width, canvas.height);
      pen.drawImage(image, 0, 0);
      const pixels = pen.getImageData(0, 0, canvas.width, canvas.height).data;
      return [canvas.height, canvas.width, Array.from(pixels)];
    }"""
    different = {}
    with chromium(find_browser()) as page:
        for name, data in corpus().items():
            source = f"data:image/{kinds[data[:2]]};base64,{base64.b64encode(data).decode()}"
            height, width, pixels = page.run(f"({script})({json.dumps(source)})")
            wanted = Image.fromarray(np.array(pixels, np.uint8).reshape(height, width, 4)[..., :3])
            # Two libraries' arithmetic for inks between the table's corners differs somewhat.
            if not near(decode(data, "a"), wanted, within=24 if name == "cmyk, profile" else 4):
                different[name] = (decode(data, "a").size, wanted.size)
    assert different == {}


def test_a_wide_gamut_is_brought_into_srgb():
    for form, options in EXACT.items():
        seen = decode(saved(flag(), form, icc_profile=profiles.wide_gamut(), **options), "a")
        red = seen.getpixel((2, 2))[0]
        assert red > RED[0] + 20  # the same red, in the weaker one's larger numbers
        assert seen.getpixel((12, 4)) == WHITE


def test_a_grey_profile():
    grey = Image.new("L", (4, 4), 128)
    seen = decode(saved(grey, "PNG", icc_profile=profiles.linear_grey()), "a")
    assert near(seen, Image.new("RGB", (4, 4), (188, 188, 188)))


def test_inks_by_their_own_table():
    ink = Image.new("CMYK", (16, 16), (0, 255, 0, 0))
    bare = decode(saved(ink, "JPEG", quality=100), "a")
    by_profile = decode(saved(ink, "JPEG", quality=100, icc_profile=profiles.inks()), "a")
    assert near(bare, Image.new("RGB", (16, 16), (255, 0, 255)))
    red, green, blue = by_profile.getpixel((8, 8))
    assert 180 < red < 230
    assert green < 60
    assert 80 < blue < 140


@pytest.mark.parametrize(
    ("mode", "icc"),
    [
        ("RGB", profiles.inks()),
        ("L", profiles.inks()),
        ("RGB", profiles.linear_grey()),
        ("CMYK", profiles.wide_gamut()),
        ("RGB", profiles.wide_gamut()[:300]),
        ("RGB", b"\0" * 128),
        ("RGB", SRGB),
    ],
)
def test_a_profile_that_is_of_no_use_changes_nothing(mode, icc):
    picture = flag().convert(mode)
    plain = decode(saved(picture, "JPEG", quality=100), "a")
    assert decode(saved(picture, "JPEG", quality=100, icc_profile=icc), "a").tobytes() == (
        plain.tobytes()
    )


def test_what_is_decoded_is_turned_by_nobody_again():
    """Image processors of transformers turn what still says that it lies on its side."""
    for form, options in EXACT.items():
        data = saved(stored(flag(), 6), form, exif=turned(6), **options)
        seen = decode(data, "a")
        assert near(ImageOps.exif_transpose(seen), flag())
        assert near(Image.open(io.BytesIO(saved(seen, "WEBP", lossless=True))), flag())
    ink = saved(flag().convert("CMYK"), "JPEG", icc_profile=profiles.inks())
    assert "icc_profile" not in Image.open(io.BytesIO(saved(decode(ink, "a"), "WEBP"))).info


def test_what_a_gifs_first_frame_leaves_free_is_white():
    seen = decode(gif((2, 1, 4, 3)), "a.gif")
    wanted = Image.new("RGB", (8, 6), WHITE)
    wanted.paste(RED, (2, 1, 6, 4))
    assert near(seen, wanted)


def test_a_webp_that_is_cut_off_isnt_called_another_format():
    data = saved(flag(), "WEBP")
    with pytest.raises(UnreadableImageError, match=r"^cut off or damaged$"):
        decode(data[:-20], "a.webp")


def test_an_archives_picture_for_everybody_keeps_its_format():
    for form, name in (("JPEG", "a.jpg"), ("PNG", "a.png")):
        plain = saved(flag(), form, **EXACT[form])
        assert browser_safe_file(plain, name, decode(plain, name)) is plain
        data = saved(stored(flag(), 6), form, exif=turned(6), **EXACT[form])
        made = browser_safe_file(data, name, decode(data, name))
        opened = Image.open(io.BytesIO(made))
        assert opened.format == form
        assert near(opened, flag(), within=24)
    wide = saved(flag(), "JPEG", icc_profile=profiles.wide_gamut(), **EXACT["JPEG"])
    for made in (
        browser_safe_file(wide, "a.jpg", decode(wide, "a.jpg")),
        browser_safe_jpeg(wide, "a.jpg"),
    ):
        opened = Image.open(io.BytesIO(made))
        assert "icc_profile" not in opened.info
        assert near(opened, decode(wide, "a.jpg"), within=90)
    usual = saved(flag(), "JPEG", icc_profile=SRGB)
    assert browser_safe_jpeg(usual, "a.jpg") is usual


def test_damage_of_any_kind_is_a_reason_and_never_half_a_picture():
    chance = random.Random(0)
    files = [saved(flag(), form) for form in ("JPEG", "PNG", "WEBP", "GIF", "BMP")]
    files += [*corpus().values()]
    for data in files:
        whole = decode(data, "a").tobytes()
        for end in chance.sample(range(len(data)), 12):
            try:
                assert decode(data[:end], "a").tobytes() == whole
            except UnreadableImageError:
                continue
        for _ in range(12):
            odd = bytearray(data)
            for at in chance.choices(range(len(odd)), k=5):
                odd[at] = chance.choice((0, 255, chance.randrange(256)))
            for read in (decode, phash, browser_safe_jpeg):
                try:
                    read(bytes(odd), "a.jpg")
                except UnreadableImageError:
                    continue


@pytest.mark.parametrize("value", TRANSPOSES)
def test_hashes_of_archives_pictures_know_nothing_of_turns_and_profiles(value):
    bare = saved(flag(), "JPEG", quality=95)
    odd = saved(flag(), "JPEG", quality=95, exif=turned(value), icc_profile=profiles.wide_gamut())
    assert phash(odd, "a.jpg") == phash(bare, "a.jpg")
