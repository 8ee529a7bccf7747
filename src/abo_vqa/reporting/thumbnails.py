"""Small WebP copies of pictures, read from the archive in parallel."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from abo_vqa.core.files import atomic_write
from abo_vqa.core.paths import REPORTS, THUMBNAILS
from abo_vqa.data.archive import open_archive
from abo_vqa.data.image_files import ImageError
from abo_vqa.reporting.inputs import Results

if TYPE_CHECKING:
    pass

if TYPE_CHECKING:
    from abo_vqa.data.archive import Archive

_QUALITY = 82  # WebP; no visible loss at this size


def thumbnail(archive: Archive, path: str, side: int) -> bytes | None:
    """One picture with its longest side at most `side` pixels; None if it can't be read."""
    from PIL import Image

    try:
        image = archive.image(path)
    except ImageError:
        return None
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    image.save(buffer, "WEBP", quality=_QUALITY, method=4)
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


def make_thumbnails(results: Results) -> dict[str, bytes | None]:
    """A thumbnail of every test picture."""
    config = results.config
    paths = dict.fromkeys(results.scores[results.focus]["image_path"])
    with open_archive(config.data.raw) as archive:
        return thumbnails(archive, paths, config.report.thumbnail, config.threads)


def embed(pictures: Mapping[str, bytes | None]) -> dict[str, str | None]:
    """Addresses of thumbnails that live inside the page; the folder beside it says where."""
    write(THUMBNAILS / "README.txt", "All thumbnails are inside browser.html.\n")
    return {path: data_uri(content) if content else None for path, content in pictures.items()}


def beside(pictures: Mapping[str, bytes | None]) -> dict[str, str | None]:
    """Write the thumbnails beside the page; return their addresses relative to it."""
    addresses: dict[str, str | None] = {}
    for path, content in pictures.items():
        target = (THUMBNAILS / path).with_suffix(".webp")
        if content:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        addresses[path] = target.relative_to(REPORTS).as_posix() if content else None
    return addresses


def write(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
