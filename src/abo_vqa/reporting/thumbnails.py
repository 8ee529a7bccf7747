"""Small WebP copies of pictures, read from the archive in parallel."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import TYPE_CHECKING

from abo_vqa.archive import ImageError

if TYPE_CHECKING:
    from abo_vqa.archive import Archive

QUALITY = 82  # WebP; no visible loss at this size


def thumbnail(archive: Archive, path: str, side: int) -> bytes | None:
    """One picture with its longest side at most `side` pixels; None if it can't be read."""
    from PIL import Image

    try:
        image = archive.image(path)
    except ImageError:
        return None
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    image.save(buffer, "WEBP", quality=QUALITY, method=4)
    return buffer.getvalue()


def thumbnails(
    archive: Archive, paths: Iterable[str], side: int, workers: int
) -> dict[str, bytes | None]:
    """Thumbnails by path, in the paths' order."""
    paths = list(paths)
    with ThreadPoolExecutor(workers) as pool:
        made = pool.map(lambda path: thumbnail(archive, path, side), paths)
        return dict(zip(paths, made, strict=True))


def data_uri(content: bytes) -> str:
    """WebP bytes as an address a page can hold."""
    return "data:image/webp;base64," + base64.b64encode(content).decode("ascii")
