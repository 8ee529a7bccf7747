"""Pictures as a browser shows them: turned, on white, in 8 bits, whatever they are called."""

import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from abo_vqa.data.image_decoding import (
    FORMATS,
    UnreadableImageError,
    browser_safe_jpeg,
    decode,
    phash,
)
from tests.support.archives import jpeg
from tests.support.images import BLUE, ORIENTATION, RED, WHITE, flag, near, png, saved, stored


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("value", range(1, 9))
def test_orientation(form, value):
    exif = Image.Exif()
    exif[ORIENTATION] = value
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}
    data = saved(stored(flag(), value), form, exif=exif, **options.get(form, {}))
    assert near(decode(data, "a"), flag())


def test_orientation_that_stands_behind_the_pixels_of_a_png():
    exif = Image.Exif()
    exif[ORIENTATION] = 3
    body = exif.tobytes().removeprefix(b"Exif\0\0")
    data = saved(stored(flag(), 3), "PNG")
    end = data.index(b"IEND") - 4
    chunk = struct.pack(">I", len(body)) + b"eXIf" + body
    chunk += struct.pack(">I", zlib.crc32(b"eXIf" + body))
    assert near(decode(data[:end] + chunk + data[end:], "a.png"), flag())


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_means_nothing_is_ignored(value):
    exif = Image.Exif()
    exif[ORIENTATION] = value
    assert near(decode(saved(flag(), "PNG", exif=exif), "a.png"), flag())


def test_damaged_exif_never_fails_a_picture():
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    exif[0x010F] = "maker" * 20
    exif.get_ifd(0x8769)[0x9286] = b"comment" * 9
    whole = exif.tobytes()
    chance = np.random.default_rng(0)
    broken = [b"Exif\0\0", b"Exif\0\0II*\0", whole[:20], whole[:-30], b"\xff" * 40]
    for _ in range(200):
        body = bytearray(whole)
        for at in chance.integers(6, len(body), 5):
            body[at] = chance.integers(256)
        broken.append(bytes(body))
    for body in broken:
        for form in ("JPEG", "WEBP", "PNG"):
            assert sorted(decode(saved(flag(), form, exif=body), "a").size) == [16, 24]


def test_pillows_remarks_stay_off_the_terminal(tmp_path):
    data = saved(flag(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01\x03\0" * 9)
    (tmp_path / "a.jpg").write_bytes(data)
    palette = saved(flag().quantize(4), "PNG", transparency=bytes([0, 128, 255, 255]))
    (tmp_path / "b.png").write_bytes(palette)
    code = (
        "import sys, pathlib; from abo_vqa.data.image_decoding import decode\n"
        "for name in sys.argv[1:]: decode(pathlib.Path(name).read_bytes(), name)"
    )
    names = [str(tmp_path / "a.jpg"), str(tmp_path / "b.png")]
    told = subprocess.run([sys.executable, "-c", code, *names], capture_output=True, text=True)
    assert (told.returncode, told.stderr) == (0, "")


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_transparency_is_put_on_white(form):
    image = Image.new("RGBA", (3, 1), (*RED, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    image.putpixel((2, 0), (0, 0, 0, 128))
    options = {"lossless": True, "exact": True} if form == "WEBP" else {}
    seen = decode(saved(image, form, **options), "a")
    assert seen.mode == "RGB"
    assert [seen.getpixel((x, 0)) for x in range(3)] == [RED, WHITE, (127, 127, 127)]


def test_grey_with_alpha_and_palettes_with_alpha():
    grey = Image.new("LA", (2, 1), (40, 255))
    grey.putpixel((1, 0), (0, 0))
    assert decode(saved(grey, "PNG"), "a").getpixel((1, 0)) == WHITE
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([*RED, *BLUE])
    palette.putpixel((1, 0), 1)
    for form, key in (("PNG", 1), ("PNG", bytes([255, 0])), ("GIF", 1)):
        seen = decode(saved(palette, form, transparency=key), "a")
        assert [seen.getpixel((0, 0)), seen.getpixel((1, 0))] == [RED, WHITE]
    assert decode(saved(palette, "PNG"), "a").getpixel((1, 0)) == BLUE


@pytest.mark.parametrize(
    ("bits", "row", "key", "wanted"),
    [
        (1, b"\x40", 1, [0, 255, 0]),
        (1, b"\x40", 0, [255, 255, 255]),
        (2, b"\x18", 2, [0, 85, 255]),
        (4, b"\x0a\x50", 10, [0, 255, 85]),
        (8, b"\x00\x0a\x64", 10, [0, 255, 100]),
        (16, b"\x00\x00\x0a\x0b\x80\x00", 0x0A0B, [0, 255, 128]),
        (16, b"\x00\x00\x0a\x0b\x80\x00", 0x0A0C, [0, 10, 128]),
    ],
)
def test_a_transparent_grey_counts_in_the_files_own_bits(bits, row, key, wanted):
    seen = decode(png(3, 1, bits, 0, [row], (b"tRNS", struct.pack(">H", key))), "a.png")
    assert [seen.getpixel((x, 0))[0] for x in range(3)] == wanted


@pytest.mark.parametrize("bits", [8, 16])
def test_a_transparent_colour(bits):
    pack = ">3H" if bits == 16 else ">3B"
    one, two = ((0x1234, 0x5678, 0x9ABC), (0x4000, 0, 0)) if bits == 16 else (RED, BLUE)
    row = struct.pack(pack, *one) + struct.pack(pack, *two)
    seen = decode(png(2, 1, bits, 2, [row], (b"tRNS", struct.pack(">3H", *one))), "a.png")
    assert seen.getpixel((0, 0)) == WHITE
    assert seen.getpixel((1, 0)) == ((0x40, 0, 0) if bits == 16 else BLUE)


def test_sixteen_bits_are_scaled_and_not_cut_off():
    values = np.linspace(0, 65535, 256).astype(np.uint16)
    ramp = Image.fromarray(np.tile(values, (4, 1)))
    seen = np.asarray(decode(saved(ramp, "PNG"), "a.png"))[0, :, 0].astype(int)
    assert np.abs(seen - np.arange(256)).max() <= 1
    colour = png(2, 1, 16, 2, [struct.pack(">6H", 65535, 32768, 0, 256, 512, 1024)])
    assert decode(colour, "a.png").getpixel((0, 0)) == (255, 128, 0)
    alpha = png(1, 1, 16, 4, [struct.pack(">2H", 0x8000, 0)])
    assert decode(alpha, "a.png").getpixel((0, 0)) == WHITE


def test_black_and_white():
    image = Image.new("1", (2, 1))
    image.putpixel((1, 0), 1)
    for form in ("PNG", "BMP", "GIF"):
        seen = decode(saved(image, form), "a")
        assert [seen.getpixel((0, 0)), seen.getpixel((1, 0))] == [(0, 0, 0), WHITE]


def test_cmyk_as_adobe_stores_it_and_with_a_profile_that_is_none():
    ink = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    for options in ({}, {"icc_profile": b"nonsense"}):
        data = saved(ink, "JPEG", quality=100, **options)
        assert near(decode(data, "a.jpg"), Image.new("RGB", (16, 16), (255, 0, 0)))


def test_a_profile_of_another_colour_model_doesnt_fail_a_picture():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    ink = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    data = saved(ink, "JPEG", quality=100, icc_profile=profile)
    assert near(decode(data, "a.jpg"), Image.new("RGB", (16, 16), (255, 0, 0)))


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a", "photo.txt", ".jpg"])
@pytest.mark.parametrize("form", FORMATS)
def test_the_content_tells_the_format(form, name):
    assert near(decode(saved(flag(), form), name), flag(), within=90)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame(form):
    more = [Image.new("RGB", (24, 16), BLUE)]
    first = Image.new("RGB", (24, 16), RED)
    data = saved(first, form, save_all=True, append_images=more, duration=9)
    assert near(decode(data, "a.gif"), first, within=12)


@pytest.mark.parametrize("data", [b"text", b"GIF89a" + b"\0" * 50, saved(flag(), "TIFF")])
def test_another_format_is_told_which_are_read(data):
    with pytest.raises(UnreadableImageError, match=r"^not a JPEG, PNG, WebP, GIF or BMP$"):
        decode(data, "a.jpg")


@pytest.mark.parametrize("form", FORMATS)
def test_cut_off_files(form):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    data = saved(noise, form)
    with pytest.raises(UnreadableImageError):
        decode(data[: len(data) // 2], "a")


def test_ordinary_jpegs_keep_their_pixels_and_hashes():
    for seed in range(5):
        data = jpeg(seed, side=256)
        as_before = Image.open(io.BytesIO(data)).convert("RGB")
        assert decode(data, "a.jpg").tobytes() == as_before.tobytes()
        assert decode(data, "a.jpg", by_name=True).tobytes() == as_before.tobytes()


def test_a_hash_is_of_the_stored_pixels():
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    image = Image.open(io.BytesIO(jpeg(3, side=256)))
    turned = saved(image, "JPEG", exif=exif, quality=95)
    assert phash(turned, "a.jpg") == phash(saved(image, "JPEG", quality=95), "a.jpg")


def test_a_jpeg_for_everybody_is_the_file_itself_if_that_will_do():
    data = jpeg(1, side=64)
    assert browser_safe_jpeg(data, "a.jpg", side=64) == data
    assert Image.open(io.BytesIO(browser_safe_jpeg(data, "a.jpg", side=32))).size == (32, 32)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    info = PngImagePlugin.PngInfo()
    info.add_text("a", "b")
    for other in (
        saved(stored(flag(), 6), "JPEG", exif=exif, quality=100, subsampling=0),
        saved(flag(), "PNG", pnginfo=info),
        saved(flag().convert("CMYK"), "JPEG", quality=100),
    ):
        made = Image.open(io.BytesIO(browser_safe_jpeg(other, "a.jpg")))
        assert (made.format, made.mode, made.getexif().get(ORIENTATION)) == ("JPEG", "RGB", None)
        assert near(made, flag(), within=90)
