"""Small WebP copies of images, read from the archive in parallel."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

from PIL import Image

from abo_vqa.core.paths import REPORTS, THUMBNAILS
from abo_vqa.data.archive import Archive, open_archive
from abo_vqa.data.image_files import ImageError
from abo_vqa.reporting.inputs import Results
from abo_vqa.reporting.pages import write_page

_QUALITY = 82  # WebP; no visible loss at this size


def _thumbnail(archive: Archive, path: str, side: int) -> bytes | None:
    """Return an image with its longest side at most `side` pixels; None if it can't be read."""
    try:
        image = archive.image(path)
    except ImageError:
        return None
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    image.save(buffer, "WEBP", quality=_QUALITY, method=4)
    return buffer.getvalue()


def _thumbnails(
    archive: Archive, paths: Iterable[str], side: int, workers: int
) -> dict[str, bytes | None]:
    """Return thumbnails by path, in the paths' order."""
    paths = list(paths)
    with ThreadPoolExecutor(workers) as pool:
        contents = pool.map(lambda path: _thumbnail(archive, path, side), paths)
        return dict(zip(paths, contents, strict=True))


def make_thumbnails(results: Results) -> dict[str, bytes | None]:
    """Return a thumbnail of every test image by its path, None for one that can't be read."""
    config = results.config
    paths = dict.fromkeys(results.scores[results.primary_model]["image_path"])
    with open_archive(config.data.raw) as archive:
        return _thumbnails(archive, paths, config.report.thumbnail, config.threads)


def data_uri(content: bytes | None) -> str | None:
    """Return WebP bytes as an address that a page can hold."""
    if not content:
        return None
    return "data:image/webp;base64," + base64.b64encode(content).decode("ascii")


def embed_thumbnails(thumbnails: Mapping[str, bytes | None]) -> dict[str, str | None]:
    """Return addresses that hold the thumbnails; a note in their folder says where they are."""
    write_page(THUMBNAILS / "README.txt", "All thumbnails are inside browser.html.\n")
    return {path: data_uri(content) for path, content in thumbnails.items()}


def save_thumbnails(thumbnails: Mapping[str, bytes | None]) -> dict[str, str | None]:
    """Write the thumbnails beside the page; return their addresses relative to it."""
    addresses: dict[str, str | None] = {}
    for path, content in thumbnails.items():
        target = (THUMBNAILS / path).with_suffix(".webp")
        if content:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)  # not atomic: syncing tens of thousands takes minutes
        addresses[path] = target.relative_to(REPORTS).as_posix() if content else None
    return addresses
