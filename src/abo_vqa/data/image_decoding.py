"""Images from untrusted bytes: decoded within limits as a browser shows them, and hashed.

Every reader of images uses `decode`, so that a model, a service and a person looking at a page see
the same: upright, on white, with 8 bits per channel.

This module imports nothing of this package: programs that have only Pillow and NumPy can use it,
and registered models of versions before 0.3 hold a copy of it.
"""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageCms, ImageFile

# ABO's originals have up to 5,000 pixels per side; a file that claims more is damaged or an attack.
MAX_PIXELS = 64_000_000
"""Pixels of an image, at most."""
# Pillow warns at half of the size at which it refuses; the limit above is lower.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)
# Pillow's warnings about damaged metadata aren't useful: what matters is read below.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

FORMATS = {"JPEG": "JPEG", "PNG": "PNG", "WEBP": "WebP", "GIF": "GIF", "BMP": "BMP"}
"""Pillow's name of a format that is read → its name in messages."""

_EXTENSIONS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}
_JPEG_START = b"\xff\xd8"
_WEBP = re.compile(rb"RIFF....WEBP", re.DOTALL)
_PROFILED = {"GRAY": "L", "CMYK": "CMYK"}  # colour space of a profile: mode of an image
_DAMAGE = (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError)
_WHITE = (255, 255, 255)
_ORIENTATION = 0x0112  # the EXIF tag
SOURCE = "source_sha1"  # key in a decoded image's `info`: the hash of its file
TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""An EXIF orientation → what makes the stored pixels upright."""


class UnreadableImageError(ValueError):
    """Bytes that aren't an image that can be shown; the message is a short phrase.

    It isn't below `AboVqaError`: the module runs without the package.
    """


def decode(
    data: bytes,
    name: str,
    *,
    by_name: bool = False,
    grey_at: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Image.Image:
    """Decode an image completely, as a browser shows it, in RGB.

    EXIF orientation is applied, transparency is put on white, 16 bits are scaled to 8, and colours
    follow the image's own profile. An animation's first frame is taken.

    Args:
        data: the file's bytes, which tell the format.
        name: the file's name.
        by_name: accept only the format that the name's extension stands for, as in ABO's archives:
            PNG for .png, else JPEG.
        grey_at: return the stored pixels in grey instead, neither turned nor put on white, at the
            smallest size that JPEG offers with at least this many pixels per side. Several times
            faster.
        max_pixels: an image that claims more is refused before any of its pixels is read.

    Raises:
        UnreadableImageError: the file is empty, of another format, of absurd dimensions, cut off or
            damaged.
    """
    image = _open(data, (_format_of(name),) if by_name else tuple(FORMATS), max_pixels)
    try:
        if grey_at is not None:
            image.draft("L", (grey_at, grey_at))
            return image.convert("L")
        rgb = _to_rgb(image, data)
    except _DAMAGE as error:
        raise UnreadableImageError("cut off or damaged") from error
    turn = TRANSPOSES.get(_orientation(image))
    upright = rgb if turn is None else rgb.transpose(turn)
    # Without its tags, or a reader that found them would turn the image again. The hash says which
    # image it is, whatever decodes and encodes it.
    upright.info = {SOURCE: sha1(data)}
    return upright


def _format_of(name: str) -> str:
    """The format that a name's extension stands for in ABO's archives."""
    return _EXTENSIONS.get(name[name.rfind(".") :].lower(), "JPEG")


def _open(data: bytes, formats: Sequence[str], max_pixels: int = MAX_PIXELS) -> ImageFile.ImageFile:
    """Open an image by reading its header only, so that absurd dimensions cost nothing."""
    if not data:
        raise UnreadableImageError("empty file")
    try:
        image = Image.open(io.BytesIO(data), formats=list(formats))
    except Image.DecompressionBombError as error:
        raise UnreadableImageError("absurd dimensions") from error
    except _DAMAGE as error:
        if "WEBP" in formats and _WEBP.match(data):  # Pillow reads the whole file here
            raise UnreadableImageError("cut off or damaged") from error
        *others, last = [FORMATS[name] for name in formats]
        allowed = f"{', '.join(others)} or {last}" if others else last
        raise UnreadableImageError(f"not a {allowed}") from error
    width, height = image.size
    if width * height > max_pixels:
        raise UnreadableImageError(f"absurd dimensions, {width} x {height}")
    return image


def _to_rgb(stored: ImageFile.ImageFile, data: bytes) -> Image.Image:
    """The stored pixels in RGB, on white."""
    if stored.info.get("default_image"):
        stored.seek(1)  # the first image of such an animated PNG is for other programs
    profile = stored.info.get("icc_profile")
    covered = stored.tile[0].extents if stored.format == "GIF" and stored.tile else None
    stored.load()
    image = _from_16_bits(stored) if stored.mode.startswith("I") else stored
    transparent = image.has_transparency_data
    rgb = _on_white(image, data, profile) if transparent else _to_srgb(image, profile)
    if covered in (None, (0, 0, *rgb.size)):
        return rgb
    page = Image.new("RGB", rgb.size, _WHITE)  # a GIF's first frame may be smaller than the image
    page.paste(rgb.crop(covered), covered)
    return page


def _from_16_bits(image: Image.Image) -> Image.Image:
    """16-bit grey in 8 bits: the high byte, as in browsers; Pillow would clip at 255."""
    values = np.asarray(image).clip(0, 65535).astype(np.uint16)
    grey = Image.fromarray((values >> 8).astype(np.uint8))
    transparent = image.info.get("transparency")
    if transparent is not None:
        opaque = (values != transparent).astype(np.uint8) * 255
        grey = Image.merge("LA", (grey, Image.fromarray(opaque)))
    return grey


def _on_white(image: Image.Image, data: bytes, profile: bytes | None) -> Image.Image:
    """An image with an alpha channel or a transparent colour, on white."""
    key = image.info.get("transparency")
    if image.format == "PNG" and image.mode in ("L", "RGB") and key is not None:
        # The key is in the file's bit depth, the pixels are in 8 bits already.
        bits = data[24]
        keys = key if isinstance(key, tuple) else (key,)
        scaled = [k >> 8 if bits == 16 else (k % 2**bits) * 255 // (2**bits - 1) for k in keys]
        image.info["transparency"] = tuple(scaled) if isinstance(key, tuple) else scaled[0]
    grey = image.mode in ("1", "L", "LA")
    layer = image.convert("LA" if grey else "RGBA")
    page = Image.new("RGB", layer.size, _WHITE)
    page.paste(_to_srgb(layer.convert("L" if grey else "RGB"), profile), mask=layer.getchannel("A"))
    return page


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert an image to sRGB by its own colour profile, if it has one that works."""
    own = _usable_profile(profile)
    space = own.profile.xcolor_space if own else ""
    # Browsers ignore a profile that is for other channels than the image's.
    fits = image.mode != "CMYK" if space == "RGB " else _PROFILED.get(space) == image.mode
    if own is None or not fits:
        return image.convert("RGB")
    channels = image.convert("RGB") if space == "RGB " else image
    try:
        standard = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(channels, own, standard, outputMode="RGB")
    except ImageCms.PyCMSError:  # damage that only the conversion finds
        converted = None
    return image.convert("RGB") if converted is None else converted


def _usable_profile(profile: bytes | None) -> ImageCms.ImageCmsProfile | None:
    """A colour profile that can be read and isn't sRGB, else None."""
    if not profile:
        return None
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return None if "srgb" in ImageCms.getProfileDescription(own).lower() else own
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation of an image, 1 to 8; 1 (upright) if it can't be read."""
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif", b""))
        orientation = exif.get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF makes Pillow raise almost anything; the pixels are fine
        return 1
    return orientation if isinstance(orientation, int) else 1


def _is_plain(data: bytes) -> bool:
    """Whether every program shows an image the same way as `decode`."""
    try:
        image = _open(data, tuple(FORMATS))
    except UnreadableImageError:
        return True
    return (
        image.mode in ("1", "L", "P", "RGB")
        and not image.has_transparency_data
        and _usable_profile(image.info.get("icc_profile")) is None
        and _orientation(image) not in TRANSPOSES
    )


def browser_safe_jpeg(
    data: bytes, name: str, *, by_name: bool = False, side: int | None = None
) -> bytes:
    """Return a JPEG that looks the same in every program, for services and pages.

    Args:
        data: the file's bytes.
        name: the file's name.
        by_name: see `decode`.
        side: maximum pixels per side; None for the image's own size.

    Returns:
        the bytes unchanged where possible, else the decoded image, compressed again.

    Raises:
        UnreadableImageError: see `decode`.
    """
    rgb = decode(data, name, by_name=by_name)
    fits = side is None or max(rgb.size) <= side
    if fits and data.startswith(_JPEG_START) and _is_plain(data):
        return data
    if side is not None:
        rgb.thumbnail((side, side), Image.Resampling.LANCZOS)
    return _encode(rgb, "JPEG", quality=92)


def browser_safe_file(data: bytes, name: str, rgb: Image.Image) -> bytes:
    """Return an archive's image as a file of the same format that looks the same everywhere.

    Args:
        data: the file's bytes.
        name: the file's name.
        rgb: the result of `decode`.

    Returns:
        the bytes unchanged where possible, else the decoded image, compressed again: without loss
        as PNG, nearly so as JPEG.
    """
    if _is_plain(data):
        return data
    if _format_of(name) == "PNG":
        return _encode(rgb, "PNG")
    return _encode(rgb, "JPEG", quality=95, subsampling=0)


def _encode(image: Image.Image, format_: str, **options: Any) -> bytes:
    """An image file's bytes, in a format of Pillow's."""
    out = io.BytesIO()
    image.save(out, format_, **options)
    return out.getvalue()


def sha1(data: bytes) -> str:
    """Return a file's SHA-1 as 40 hex digits.

    Args:
        data: the file's bytes.
    """
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


def phash(data: bytes, name: str, *, by_name: bool = True) -> str:
    """Compute a perceptual hash: near-duplicate images differ in few of its 64 bits.

    It is the DCT hash of `imagehash.phash`, but its 32 x 32 grey pixels are made from the JPEG's
    own grey channel, for large images at a reduced size: in half the time, with at most a few bits
    different. ABO's images are hashed as stored, before any turning, so that published hashes stay
    valid.

    Args:
        data: the file's bytes.
        name: the file's name.
        by_name: True for ABO's archives: the name's extension says which format is accepted. False
            hashes a file of any format as a browser shows it; for an upright JPEG, the same hash.

    Returns:
        16 hex digits.

    Raises:
        UnreadableImageError: see `decode`.
    """
    import imagehash  # the registered model runs where it isn't installed

    if by_name:
        return str(imagehash.phash(decode(data, name, by_name=True, grey_at=256)))
    stored = _open(data, tuple(FORMATS))
    if stored.format != "JPEG":
        return str(imagehash.phash(decode(data, name)))
    grey = decode(data, name, grey_at=256)
    turn = TRANSPOSES.get(_orientation(stored))
    return str(imagehash.phash(grey if turn is None else grey.transpose(turn)))
