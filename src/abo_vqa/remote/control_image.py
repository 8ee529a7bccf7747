"""The image of control requests: one that any working service takes."""

from __future__ import annotations

import io

from PIL import Image

_SIDE = 64  # pixels


def grey_square() -> bytes:
    """Return a plain grey square as a JPEG."""
    buffer = io.BytesIO()
    Image.new("RGB", (_SIDE, _SIDE), (128, 128, 128)).save(buffer, "JPEG")
    return buffer.getvalue()
