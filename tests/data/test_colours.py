"""Colour profiles, odd frames, and what the same file looks like in a real browser."""

import base64
import io
import json
import random
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from abo_vqa.data.image_decoding import (
    TRANSPOSES,
    UnreadableImageError,
    browser_safe_file,
    browser_safe_jpeg,
    decode,
    phash,
)
from abo_vqa.reporting.pdf import find_browser
from tests.data.test_shown import (
    BLUE,
    ORIENTATION,
    RED,
    WHITE,
    flag,
    near,
    png,
    saved,
    stored,
)
from tests.support import colour_profiles as profiles
from tests.support.chrome import chromium

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
EXACT = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}, "PNG": {}}


def turned(value):
    exif = Image.Exif()
    exif[ORIENTATION] = value
    return exif


def gif(box, background=0, transparent=None):
    """A GIF of 8 x 6 pixels whose only frame covers `box` (left, top, width, height), in red."""
    left, top, width, height = box
    palette = bytes([*RED, *BLUE])
    pixels = Image.new("P", (width, height), 0)
    pixels.putpalette(palette + bytes(762))
    made = saved(pixels, "GIF", interlace=0)
    body = made[made.index(b"\x2c") + 10 : -1]
    control = bytes([1, 0, 0, transparent, 0]) if transparent is not None else bytes(5)
    return (
        b"GIF89a"
        + struct.pack("<HHBBB", 8, 6, 0x80, background, 0)
        + palette
        + b"\x21\xf9\x04"
        + control
        + b"\x2c"
        + struct.pack("<HHHHB", left, top, width, height, 0)
        + body
        + b"\x3b"
    )


def fading():
    image = flag().convert("RGBA")
    image.putalpha(Image.fromarray(np.tile(np.arange(0, 240, 10, dtype=np.uint8), (16, 1))))
    return image


def corpus():
    """name → bytes: pictures of every kind that browsers show otherwise than their bare pixels."""
    made = {}
    for form, options in EXACT.items():
        for value in range(1, 9) if form != "WEBP" else ():  # Chromium doesn't turn WebP
            made[f"turned {value} {form}"] = saved(
                stored(flag(), value), form, exif=turned(value), **options
            )
        for name, icc in (
            ("wide", profiles.wide_gamut()), ("srgb", SRGB), ("damaged", b"x" * 300),
            ("cmyk", profiles.inks()),
        ):  # fmt: skip
            made[f"{name} profile {form}"] = saved(flag(), form, icc_profile=icc, **options)
    grey = Image.fromarray(np.tile(np.arange(0, 256, 8, dtype=np.uint8), (8, 1)))
    made["grey profile"] = saved(grey, "PNG", icc_profile=profiles.linear_grey())
    both = Image.merge("LA", (grey, grey))
    made["grey profile, alpha"] = saved(both, "PNG", icc_profile=profiles.linear_grey())
    made["alpha, profile"] = saved(fading(), "PNG", icc_profile=profiles.wide_gamut())
    made["alpha WebP"] = saved(fading(), "WEBP", lossless=True, exact=True)
    palette = flag().quantize(4)
    made["palette, profile"] = saved(palette, "PNG", icc_profile=profiles.wide_gamut())
    made["palette, alpha"] = saved(palette, "PNG", transparency=bytes([255, 0, 128]))
    ink = flag().convert("CMYK")
    made["cmyk"] = saved(ink, "JPEG", quality=100)
    made["cmyk, profile"] = saved(ink, "JPEG", quality=100, icc_profile=profiles.inks())
    adobe = bytearray(made["cmyk"])
    adobe[adobe.index(b"Adobe") + 11] = 2
    made["ycck"] = bytes(adobe)
    made["small frame"] = gif((2, 1, 4, 3))
    made["small frame, background"] = gif((2, 1, 4, 3), background=1)
    made["small frame, transparent"] = gif((2, 1, 4, 3), transparent=0)
    more = {"save_all": True, "append_images": [Image.new("RGB", (24, 16), BLUE)]}
    made["several JPEGs"] = saved(stored(flag(), 6), "MPO", exif=turned(6), **more, **EXACT["JPEG"])
    more["duration"] = 60_000
    for form in ("GIF", "WEBP", "PNG"):
        made[f"animation {form}"] = saved(flag(), form, **more, **EXACT.get(form, {}))
    more["append_images"].insert(0, flag())
    made["animation with another picture before it"] = saved(
        Image.new("RGB", (24, 16), RED), "PNG", default_image=True, **more
    )
    made["16 bits"] = png(2, 1, 16, 6, [struct.pack(">8H", 65535, 32768, 0, 65535, 0, 9, 99, 0)])
    made["1 pixel"] = saved(Image.new("RGB", (1, 1), RED), "PNG")
    return made


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
