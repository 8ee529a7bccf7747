"""Rows together with their image, one image at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from abo_vqa.core.progress import progress_bar
from abo_vqa.data.archive import Archive
from abo_vqa.data.image_decoding import browser_safe_file
from abo_vqa.data.image_files import ImageError
from abo_vqa.reporting.export_format import Row


def images_with_rows(
    rows: Sequence[Row], archive: Archive, name: str, done: int = 0
) -> Iterator[tuple[int, str, bytes, list[Row]]]:
    """Yield each readable image's number, path and file, and its rows, in the order of first rows.

    Numbers count from 1, unreadable images too.

    Args:
        rows: of a split, with image_path.
        archive: where the images are read from.
        name: of the split, for the progress bar.
        done: how many images to leave out, since an earlier attempt has written them.
    """
    by_image: dict[str, list[Row]] = {}
    for row in rows:
        by_image.setdefault(row["image_path"], []).append(row)
    with progress_bar(len(by_image), initial=done, desc=name, unit="image") as bar:
        for number, (path, same) in enumerate(islice(by_image.items(), done, None), done + 1):
            bar.update()
            try:
                # Upright and opaque, as the models of this project see it.
                content = browser_safe_file(archive.read(path), path, archive.image(path))
            except ImageError:
                continue
            yield number, path, content, same
