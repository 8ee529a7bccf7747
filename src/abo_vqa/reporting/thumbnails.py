"""Small copies of images, read in parallel."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from abo_vqa.data.image_files import ImageError
from abo_vqa.reporting.pages import write_page

if TYPE_CHECKING:
    from abo_vqa.core.config import Config

OpenImage = Callable[[str], Image.Image]
_QUALITY = 82  # no visible loss at this size
# A page that holds its thumbnails needs small ones. Tens of thousands of files, read one by one,
# may be a fifth larger and take a third of the time.
_EMBEDDED: dict[str, Any] = {"format": "WEBP", "method": 4}
_FILES: dict[str, Any] = {"format": "JPEG"}


def _thumbnail(
    open_image: OpenImage, path: str, side: int, options: Mapping[str, Any]
) -> bytes | None:
    """Return an image with its longest side at most `side` pixels; None if it can't be read."""
    try:
        image = open_image(path)
    except ImageError:
        return None
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    image.save(buffer, quality=_QUALITY, **options)
    return buffer.getvalue()


def embed_thumbnails(
    paths: Sequence[str], open_image: OpenImage, config: Config
) -> dict[str, str | None]:
    """Return addresses that hold the thumbnails.

    Args:
        paths: the images' paths.
        open_image: returns the RGB image at a path, or raises `ImageError`; called in threads.
        config: the thumbnails' size and the number of threads.

    Returns:
        Path → address, None for an image that can't be read.
    """
    side = config.report.thumbnail

    def address(path: str) -> str | None:
        content = _thumbnail(open_image, path, side, _EMBEDDED)
        if not content:
            return None
        return "data:image/webp;base64," + base64.b64encode(content).decode("ascii")

    with ThreadPoolExecutor(config.threads) as pool:
        return dict(zip(paths, pool.map(address, paths), strict=True))


def save_thumbnails(
    paths: Sequence[str], open_image: OpenImage, folder: Path, config: Config
) -> dict[str, str | None]:
    """Write thumbnails to a folder beside the page, each as soon as it is made.

    Args:
        paths: the images' paths.
        open_image: returns the RGB image at a path, or raises `ImageError`; called in threads.
        folder: where they go, under the images' own paths.
        config: the thumbnails' size and the number of threads.

    Returns:
        Path → address relative to the page, None for an image that can't be read.
    """
    side = config.report.thumbnail
    for parent in {(folder / path).parent for path in paths}:
        parent.mkdir(parents=True, exist_ok=True)

    def address(path: str) -> str | None:
        content = _thumbnail(open_image, path, side, _FILES)
        if not content:
            return None
        target = folder / f"{path}.jpg"
        target.write_bytes(content)  # not atomic: syncing tens of thousands takes minutes
        return target.relative_to(folder.parent).as_posix()

    with ThreadPoolExecutor(config.threads) as pool:
        return dict(zip(paths, pool.map(address, paths), strict=True))


def note_embedding(folder: Path, content: str) -> None:
    """Leave a note in a folder that has nothing else in it.

    Args:
        folder: the folder.
        content: what is embedded in the page, e.g. "All thumbnails".
    """
    write_page(folder / "README.txt", f"{content} are inside browser.html.\n")


def pick_thumbnails(
    addresses: Mapping[str, str | None],
    paths: Sequence[str],
    open_image: OpenImage,
    config: Config,
) -> dict[str, str | None]:
    """Return addresses that hold some images' thumbnails.

    Args:
        addresses: what `embed_thumbnails` or `save_thumbnails` returned.
        paths: the images wanted.
        open_image: returns the RGB image at a path, or raises `ImageError`.
        config: the thumbnails' size and the number of threads.
    """
    known = {path: addresses.get(path) for path in paths}
    files = [path for path, address in known.items() if address and ":" not in address]
    return known | embed_thumbnails(files, open_image, config)
