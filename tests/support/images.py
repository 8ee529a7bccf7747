"""Images of every kind that browsers show otherwise than their bare pixels."""

import io
import struct
import zlib

import numpy as np
from PIL import Image, ImageCms

from abo_vqa.data.image_decoding import (
    TRANSPOSES,
)
from tests.support import colour_profiles as profiles

ORIENTATION = 0x0112


RED, BLUE, WHITE = (200, 30, 30), (30, 30, 200), (255, 255, 255)


def saved(image, form, **options):
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def flag():
    """A picture whose four corners differ, 24 x 16."""
    image = Image.new("RGB", (24, 16), WHITE)
    image.paste(RED, (0, 0, 8, 8))
    image.paste(BLUE, (16, 8, 24, 16))
    image.paste((30, 160, 30), (0, 8, 8, 16))
    return image


def near(seen, wanted, within=6):
    difference = np.abs(np.asarray(seen, dtype=int) - np.asarray(wanted, dtype=int))
    return seen.size == wanted.size and difference.max() <= within


def png(width, height, bits, kind, rows, *chunks):
    """A PNG made by hand: bits a channel and colour type that Pillow doesn't write."""

    def chunk(name, body):
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + b"".join(chunk(*c) for c in chunks)
        + chunk(b"IDAT", data)
        + chunk(b"IEND", b"")
    )


def stored(image, value):
    """How a camera held otherwise would have stored an upright picture."""
    if value == 1:
        return image
    back = {6: TRANSPOSES[8], 8: TRANSPOSES[6]}.get(value, TRANSPOSES[value])
    return image.transpose(back)


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
