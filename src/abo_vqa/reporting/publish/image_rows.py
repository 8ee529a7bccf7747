"""Rows together with their image, one image at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from abo_vqa.core.progress import progress
from abo_vqa.data.archive import Archive
from abo_vqa.data.image_decoding import browser_safe_file
from abo_vqa.data.image_files import ImageError
from abo_vqa.reporting.export_format import Row


def images_with_rows(
    rows: Sequence[Row], archive: Archive, name: str
) -> Iterator[tuple[str, bytes, list[Row]]]:
    """Yield each readable image's path and file, and its rows, in the order of first rows.

    Args:
        rows: of a split, with image_path.
        archive: where the images are read from.
        name: of the split, for the progress bar.
    """
    by_image: dict[str, list[Row]] = {}
    for row in rows:
        by_image.setdefault(row["image_path"], []).append(row)
    for path, same in progress(by_image.items(), total=len(by_image), desc=name, unit="image"):
        try:
            # Upright and opaque, as the models of this project see it.
            content = browser_safe_file(archive.read(path), path, archive.image(path))
        except ImageError:
            continue
        yield path, content, same
