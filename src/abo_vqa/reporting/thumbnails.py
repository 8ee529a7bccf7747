"""Small WebP copies of images, read in parallel."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

from PIL import Image

from abo_vqa.data.image_files import ImageError
from abo_vqa.reporting.inputs import Results
from abo_vqa.reporting.pages import write_page

OpenImage = Callable[[str], Image.Image]
_QUALITY = 82  # WebP; no visible loss at this size


def _thumbnail(open_image: OpenImage, path: str, side: int) -> bytes | None:
    """Return an image with its longest side at most `side` pixels; None if it can't be read."""
    try:
        image = open_image(path)
    except ImageError:
        return None
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    image.save(buffer, "WEBP", quality=_QUALITY, method=4)
    return buffer.getvalue()


def make_thumbnails(results: Results, open_image: OpenImage) -> dict[str, bytes | None]:
    """Return a thumbnail of every test image by its path, None for one that can't be read.

    Args:
        results: the run's numbers.
        open_image: returns the RGB image at a path, or raises `ImageError`; called in threads.
    """
    config = results.config
    paths = list(dict.fromkeys(results.scores[results.primary_model]["image_path"]))
    with ThreadPoolExecutor(config.threads) as pool:
        contents = pool.map(lambda p: _thumbnail(open_image, p, config.report.thumbnail), paths)
        return dict(zip(paths, contents, strict=True))


def data_uri(content: bytes | None) -> str | None:
    """Return WebP bytes as an address that a page can hold."""
    if not content:
        return None
    return "data:image/webp;base64," + base64.b64encode(content).decode("ascii")


def embed_thumbnails(thumbnails: Mapping[str, bytes | None], folder: Path) -> dict[str, str | None]:
    """Return addresses that hold the thumbnails; a note in their folder says where they are."""
    write_page(folder / "README.txt", "All thumbnails are inside browser.html.\n")
    return {path: data_uri(content) for path, content in thumbnails.items()}


def save_thumbnails(thumbnails: Mapping[str, bytes | None], folder: Path) -> dict[str, str | None]:
    """Write the thumbnails to a folder beside the page; return their addresses relative to it."""
    addresses: dict[str, str | None] = dict.fromkeys(thumbnails)
    for path, content in thumbnails.items():
        if content:
            target = folder / f"{path}.webp"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)  # not atomic: syncing tens of thousands takes minutes
            addresses[path] = target.relative_to(folder.parent).as_posix()
    return addresses
