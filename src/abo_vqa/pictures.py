"""Pictures from untrusted bytes: decoded within limits, hashed for finding duplicates."""

from __future__ import annotations

import hashlib
import io
import warnings

from PIL import Image

# ABO's originals reach 5,000 pixels a side; a file that claims more is an attack or damage.
MAX_PIXELS = 64_000_000
# Pillow warns at half of the size at which it refuses; the limit above is lower.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)
FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}


class Unreadable(ValueError):
    """Why some bytes aren't a picture; the message is a short phrase."""


def decode(data: bytes, name: str, *, grey_at: int | None = None) -> Image.Image:
    """Decode a picture completely.

    Args:
        data: the file's bytes; name: its name, whose ending says which format is accepted.
        grey_at: decode to grey at the smallest size JPEG offers that is at least this (pixels a
            side), several times faster; None for RGB at full size.
    Raises:
        Unreadable: empty, of another format, of absurd dimensions, cut off or damaged.
    """
    if not data:
        raise Unreadable("empty file")
    suffix = name[name.rfind(".") :].lower()
    expected = FORMATS.get(suffix, "JPEG")
    try:
        # Only the header is read here: absurd dimensions cost nothing.
        picture = Image.open(io.BytesIO(data), formats=[expected])
    except Image.DecompressionBombError as error:
        raise Unreadable("absurd dimensions") from error
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise Unreadable(f"not a {expected}") from error
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise Unreadable(f"absurd dimensions, {width} x {height}")
    if grey_at is not None:
        picture.draft("L", (grey_at, grey_at))
    try:
        return picture.convert("RGB" if grey_at is None else "L")
    except (OSError, ValueError, SyntaxError, EOFError, IndexError) as error:
        raise Unreadable("cut off or damaged") from error


def sha1(data: bytes) -> str:
    """40 hex digits that identical files share."""
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


def phash(data: bytes, name: str) -> str:
    """Perceptual hash, 64 bits as 16 hex digits: pictures that look alike differ in few bits.

    The DCT hash of `imagehash.phash`, whose 32 x 32 grey pixels are made from the JPEG's own grey
    channel, for large pictures at a reduced size: half the time, at most a few bits different.

    Raises:
        Unreadable: see `decode`.
    """
    import imagehash

    return str(imagehash.phash(decode(data, name, grey_at=256)))
