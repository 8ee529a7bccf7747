"""Hashes of images: of the file (SHA-1) and of what it shows (perceptual).

A missing hash is filled in wherever the image is available: two images are never assumed to be
unlike because nobody looked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, zip_longest

import pandas as pd

from abo_vqa.core.progress import progress
from abo_vqa.data.image_decoding import UnreadableImageError, phash, sha1
from abo_vqa.data.image_files import ImageError

_PART = 128  # images of a batch that are fetched together, while others are hashed

HASH_COLUMNS = ("image_sha1", "phash")

HASH_BATCH = 1024
"""Images that are hashed together."""


@dataclass(frozen=True)
class ImageHashes:
    """The hashes of an image, or why it has none.

    Attributes:
        image_sha1: 40 hex digits.
        phash: 16 hex digits.
        problem: a short phrase; "" if the image could be read.
    """

    image_sha1: str = ""
    phash: str = ""
    problem: str = ""


def hash_images(
    names: Sequence[str],
    read: Callable[[str], bytes],
    *,
    by_name: bool = True,
    prefetch: Callable[[Sequence[str]], None] | None = None,
) -> dict[str, ImageHashes]:
    """Hash images in threads; Pillow decodes outside Python's global lock.

    Args:
        names: the images.
        read: returns an image's bytes; an `ImageError` becomes the image's problem.
        by_name: see `image_decoding.phash`.
        prefetch: fetches images that are read next; see `Archive.prefetch`.
    """
    parts = [names[start : start + HASH_BATCH] for start in range(0, len(names), HASH_BATCH)]
    hashes = chain.from_iterable(
        hash_batch(read, part, by_name=by_name, prefetch=prefetch) for part in parts
    )
    bar = progress(hashes, total=len(names), desc="hashes", unit="image")
    return dict(zip(names, bar, strict=True))


def hash_batch(
    read: Callable[[str], bytes],
    names: Sequence[str],
    *,
    by_name: bool = True,
    prefetch: Callable[[Sequence[str]], None] | None = None,
) -> list[ImageHashes]:
    """Hash a batch of images in threads; see `hash_images`.

    Args:
        read: returns an image's bytes.
        names: the images.
        by_name: see `image_decoding.phash`.
        prefetch: see `hash_images`.

    Returns:
        Their hashes, in order.
    """

    def compute(name: str) -> ImageHashes:
        try:
            data = read(name)
            return ImageHashes(sha1(data), phash(data, name, by_name=by_name))
        except ImageError as error:
            return ImageHashes(problem=error.reason)
        except UnreadableImageError as error:
            return ImageHashes(problem=str(error))

    pool = ThreadPoolExecutor()
    try:
        return list(
            pool.map(compute, names)
            if prefetch is None
            else _in_parts(pool, compute, names, prefetch)
        )
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C, not another 1,000 images


def _in_parts(
    pool: ThreadPoolExecutor,
    compute: Callable[[str], ImageHashes],
    names: Sequence[str],
    prefetch: Callable[[Sequence[str]], None],
) -> Iterator[ImageHashes]:
    """Hash images part by part, while those of the next part are fetched."""
    parts = [names[start : start + _PART] for start in range(0, len(names), _PART)]
    with ThreadPoolExecutor(1) as fetcher:
        fetched = [fetcher.submit(prefetch, part) for part in parts[:1]]
        for part, following in zip_longest(parts, parts[1:]):
            fetched.pop().result()
            if following is not None:
                fetched.append(fetcher.submit(prefetch, following))
            yield from pool.map(compute, part)


def fill_hashes(table: pd.DataFrame, hashes: Mapping[str, ImageHashes]) -> pd.DataFrame:
    """Return a table with its missing hashes filled in; "" where there is still none.

    Args:
        table: with the column image_path.
        hashes: an image_path → its hashes.
    """
    rows = [hashes.get(path, ImageHashes()) for path in table["image_path"]]
    for name in HASH_COLUMNS:
        values = pd.Series([getattr(row, name) for row in rows], index=table.index, dtype=object)
        if name in table:
            values = table[name].where(table[name] != "", values)
        table = table.assign(**{name: values})
    return table
