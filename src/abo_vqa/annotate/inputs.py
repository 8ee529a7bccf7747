"""What annotation starts from: the balanced table, the quality filter, images that can be read."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TYPE_CHECKING

from abo_vqa.annotate.quality_filter import QualityFilter
from abo_vqa.annotate.reviews import REJECT, Reviews, read_reviews, review_files
from abo_vqa.core.paths import BALANCED
from abo_vqa.core.progress import progress
from abo_vqa.core.row_list import RowList
from abo_vqa.core.tables import STUDY_COLUMNS
from abo_vqa.data.archive import Archive
from abo_vqa.data.image_files import ImageError

if TYPE_CHECKING:
    from abo_vqa.core.config import Config


_PART = 1024  # images
_COLUMNS = ("image_path", "name", "product_type", "color", "keywords")


def read_products() -> RowList:
    """Return the balanced table's rows."""
    return RowList.read(BALANCED, _COLUMNS, STUDY_COLUMNS)


def reviews_in_use(config: Config) -> Reviews:
    """Return the reviews that `generate.review` names: none, one file or a folder."""
    path = config.generate.review
    return read_reviews(review_files(path)) if path else Reviews()


def make_quality_filter(config: Config, reviews: Reviews | None = None) -> QualityFilter:
    """Return the quality filter, with the pairs that people rejected.

    Args:
        config: generate's settings.
        reviews: what people decided; None reads it.
    """
    settings = config.generate
    verdicts = (reviews_in_use(config) if reviews is None else reviews).verdicts()
    rejected = frozenset(pair for pair, v in verdicts.items() if v.decision == REJECT)
    return QualityFilter(settings.questions, settings.allow_brands, rejected)


def unreadable_images(archive: Archive, paths: Sequence[str]) -> dict[str, str]:
    """Return the images that can't be read, and why.

    Args:
        archive: decoded in threads, since Pillow releases the interpreter's lock.
        paths: the images.
    """

    def problem(path: str) -> str:
        try:
            archive.image(path)
        except ImageError as error:
            return error.reason
        return ""

    # In parts: a pool has an object for each call that it is given.
    parts = (paths[start : start + _PART] for start in range(0, len(paths), _PART))
    with ThreadPoolExecutor() as pool:
        problems = chain.from_iterable(pool.map(problem, part) for part in parts)
        bar = progress(problems, total=len(paths), desc="images", unit="image")
        return {path: why for path, why in zip(paths, bar, strict=True) if why}
