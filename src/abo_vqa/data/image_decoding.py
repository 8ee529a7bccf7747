"""Pictures from untrusted bytes: decoded within limits as a browser shows them, and hashed.

Every reader of pictures goes through `decode`, so that a model, a service and a person looking at
a page see the same: upright, on white, in 8 bits a channel.
"""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageCms, ImageFile

if TYPE_CHECKING:
    from PIL import Image


# ABO's originals reach 5,000 pixels a side; a file that claims more is an attack or damage.
_MAX_PIXELS = 64_000_000
# Pillow warns at half of the size at which it refuses; the limit above is lower.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)
# Its remarks on damaged metadata help nobody: what matters of it is read below, or left out.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

# Pillow's name of a format: ours
FORMATS = {"JPEG": "JPEG", "PNG": "PNG", "WEBP": "WebP", "GIF": "GIF", "BMP": "BMP"}
_ENDINGS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}
_JPEG_START = b"\xff\xd8"
_WEBP = re.compile(rb"RIFF....WEBP", re.DOTALL)
_PROFILED = {"GRAY": "L", "CMYK": "CMYK"}  # colour space of a profile: mode of a picture
_DAMAGE = (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError)
_WHITE = (255, 255, 255)
_ORIENTATION = 0x0112  # the EXIF tag; its values say how the stored pixels must be turned
TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnreadableImageError(ValueError):
    """Why some bytes aren't a picture; the message is a short phrase."""


def decode(
    data: bytes, name: str, *, by_name: bool = False, grey_at: int | None = None
) -> Image.Image:
    """Decode a picture completely, as a browser shows it, in RGB.

    EXIF orientation is applied, transparency is put on white, 16 bits are scaled to 8, and colours
    follow the picture's own profile; of an animation it is the first frame.

    Args:
        data: the file's bytes, which tell the format; name: the file's name.
        by_name: accept only the format that the name's ending stands for, the rule in ABO's
            archives: JPEG, or PNG if it is .png.
        grey_at: instead the stored pixels in grey, neither turned nor put on white, at the smallest
            size JPEG offers that is at least this (pixels a side): several times faster.
    Raises:
        Unreadable: empty, of another format, of absurd dimensions, cut off or damaged.
    """
    picture = _opened(data, (_promised(name),) if by_name else tuple(FORMATS))
    try:
        if grey_at is not None:
            picture.draft("L", (grey_at, grey_at))
            return picture.convert("L")
        shown = _in_rgb(picture, data)
    except _DAMAGE as error:
        raise UnreadableImageError("cut off or damaged") from error
    turn = TRANSPOSES.get(_orientation(picture))
    upright = shown if turn is None else shown.transpose(turn)
    upright.info = {}  # what is done already: whoever finds the tags would turn the picture again
    return upright


def _promised(name: str) -> str:
    """The format a name's ending stands for in ABO's archives, where pictures are JPEGs."""
    return _ENDINGS.get(name[name.rfind(".") :].lower(), "JPEG")


def _opened(data: bytes, formats: Sequence[str]) -> ImageFile.ImageFile:
    """A picture of which only the header is read: absurd dimensions cost nothing."""
    if not data:
        raise UnreadableImageError("empty file")
    try:
        picture = Image.open(io.BytesIO(data), formats=list(formats))
    except Image.DecompressionBombError as error:
        raise UnreadableImageError("absurd dimensions") from error
    except _DAMAGE as error:
        if "WEBP" in formats and _WEBP.match(data):  # Pillow reads all of it to open it
            raise UnreadableImageError("cut off or damaged") from error
        *others, last = [FORMATS[name] for name in formats]
        allowed = f"{', '.join(others)} or {last}" if others else last
        raise UnreadableImageError(f"not a {allowed}") from error
    width, height = picture.size
    if width * height > _MAX_PIXELS:
        raise UnreadableImageError(f"absurd dimensions, {width} x {height}")
    return picture


def _in_rgb(stored: ImageFile.ImageFile, data: bytes) -> Image.Image:
    """The pixels as they are stored, in RGB."""
    if stored.info.get("default_image"):
        stored.seek(1)  # of an animated PNG whose first picture is for other programs only
    profile = stored.info.get("icc_profile")
    covered = stored.tile[0].extents if stored.format == "GIF" and stored.tile else None
    stored.load()
    picture = _from_16_bits(stored) if stored.mode.startswith("I") else stored
    clear = picture.has_transparency_data
    shown = _on_white(picture, data, profile) if clear else _coloured(picture, profile)
    if covered in (None, (0, 0, *shown.size)):
        return shown
    page = Image.new("RGB", shown.size, _WHITE)  # a GIF's first frame may be smaller than the GIF
    page.paste(shown.crop(covered), covered)
    return page


def _from_16_bits(picture: Image.Image) -> Image.Image:
    """Grey of 16 bits in 8: the high byte, as browsers take it; Pillow would cut off at 255."""
    values = np.asarray(picture).clip(0, 65535).astype(np.uint16)
    grey = Image.fromarray((values >> 8).astype(np.uint8))
    transparent = picture.info.get("transparency")
    if transparent is not None:
        opaque = (values != transparent).astype(np.uint8) * 255
        grey = Image.merge("LA", (grey, Image.fromarray(opaque)))
    return grey


def _on_white(picture: Image.Image, data: bytes, profile: bytes | None) -> Image.Image:
    """A picture with an alpha channel or a transparent colour, on a white page."""
    key = picture.info.get("transparency")
    if picture.format == "PNG" and picture.mode in ("L", "RGB") and key is not None:
        # The key counts in the file's own bits a channel, the pixels are in 8 already.
        bits = data[24]
        keys = key if isinstance(key, tuple) else (key,)
        scaled = [k >> 8 if bits == 16 else (k % 2**bits) * 255 // (2**bits - 1) for k in keys]
        picture.info["transparency"] = tuple(scaled) if isinstance(key, tuple) else scaled[0]
    grey = picture.mode in ("1", "L", "LA")
    seen = picture.convert("LA" if grey else "RGBA")
    page = Image.new("RGB", seen.size, _WHITE)
    page.paste(_coloured(seen.convert("L" if grey else "RGB"), profile), mask=seen.getchannel("A"))
    return page


def _coloured(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """In sRGB by the picture's own colour profile; as it is if it has none, or none that works."""
    own = _foreign(profile)
    space = own.profile.xcolor_space if own else ""
    # Browsers leave out a profile that is for other channels than the picture's.
    fits = picture.mode != "CMYK" if space == "RGB " else _PROFILED.get(space) == picture.mode
    if own is None or not fits:
        return picture.convert("RGB")
    channels = picture.convert("RGB") if space == "RGB " else picture
    try:
        standard = ImageCms.createProfile("sRGB")
        shown = ImageCms.profileToProfile(channels, own, standard, outputMode="RGB")
    except ImageCms.PyCMSError:  # damaged where only the conversion finds it
        shown = None
    return picture.convert("RGB") if shown is None else shown


def _foreign(profile: bytes | None) -> ImageCms.ImageCmsProfile | None:
    """A colour profile that can be read, and isn't the standard one (sRGB)."""
    if not profile:
        return None
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return None if "srgb" in ImageCms.getProfileDescription(own).lower() else own
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


def _orientation(picture: Image.Image) -> int:
    """The EXIF orientation of a picture, 1 to 8; 1, upright, where there is none to read."""
    exif = Image.Exif()
    try:
        exif.load(picture.info.get("exif", b""))
        found = exif.get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF makes Pillow raise almost anything; the pixels are fine
        return 1
    return found if isinstance(found, int) else 1


def _is_plain(data: bytes) -> bool:
    """Whether every program shows a picture that `decode` reads as `decode` does."""
    try:
        picture = _opened(data, tuple(FORMATS))
    except UnreadableImageError:
        return True
    return (
        picture.mode in ("1", "L", "P", "RGB")
        and not picture.has_transparency_data
        and _foreign(picture.info.get("icc_profile")) is None
        and _orientation(picture) not in TRANSPOSES
    )


def plain_jpeg(data: bytes, name: str, *, by_name: bool = False, side: int | None = None) -> bytes:
    """A JPEG that looks the same in every program, for services and pages.

    Args:
        data, name, by_name: see `decode`.
        side: pixels a side at most; None for the picture's own size.
    Returns:
        the bytes as they are if they will do, else the decoded picture, compressed anew.
    Raises:
        Unreadable: see `decode`.
    """
    shown = decode(data, name, by_name=by_name)
    fits = side is None or max(shown.size) <= side
    if fits and data.startswith(_JPEG_START) and _is_plain(data):
        return data
    if side is not None:
        shown.thumbnail((side, side), Image.Resampling.LANCZOS)
    return _encode(shown, "JPEG", quality=92)


def plain_file(data: bytes, name: str, shown: Image.Image) -> bytes:
    """A picture of an archive, as a file of the same format that looks the same everywhere.

    Args:
        data, name: see `decode`; shown: what it gave.
    Returns:
        the bytes as they are if they will do, else the decoded picture, compressed anew: without
        loss as PNG, nearly without as JPEG.
    """
    if _is_plain(data):
        return data
    if _promised(name) == "PNG":
        return _encode(shown, "PNG")
    return _encode(shown, "JPEG", quality=95, subsampling=0)


def _encode(picture: Image.Image, form: str, **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, form, **options)
    return out.getvalue()


def sha1(data: bytes) -> str:
    """40 hex digits that identical files share."""
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


def phash(data: bytes, name: str, *, by_name: bool = True) -> str:
    """Perceptual hash, 64 bits as 16 hex digits: pictures that look alike differ in few bits.

    The DCT hash of `imagehash.phash`, whose 32 x 32 grey pixels are made from the JPEG's own grey
    channel, for large pictures at a reduced size: half the time, at most a few bits different.
    It is of the pixels as stored, before any turning: published hashes stay what they are.

    Args:
        name: as in ABO's archives; its ending says which format is accepted.
        by_name: False for a picture of one's own, in any format: as a browser shows it, for an
            upright JPEG the same hash.
    Raises:
        Unreadable: see `decode`.
    """
    import imagehash

    if by_name:
        return str(imagehash.phash(decode(data, name, by_name=True, grey_at=256)))
    stored = _opened(data, tuple(FORMATS))
    if stored.format != "JPEG":
        return str(imagehash.phash(decode(data, name)))
    grey = decode(data, name, grey_at=256)
    turn = TRANSPOSES.get(_orientation(stored))
    return str(imagehash.phash(grey if turn is None else grey.transpose(turn)))
