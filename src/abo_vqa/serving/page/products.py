"""Products of the test split to choose from: images that no model has been trained on."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

import pandas as pd
from PIL import Image

from abo_vqa.core.errors import UserError
from abo_vqa.core.log import get_logger
from abo_vqa.core.paths import BALANCED, TEST
from abo_vqa.core.tables import read_table
from abo_vqa.data.archive import open_archive
from abo_vqa.data.image_files import ImageError

if TYPE_CHECKING:
    from abo_vqa.core.config import Config
    from abo_vqa.data.archive import Archive

logger = get_logger(__name__)

_COUNT = 24  # products on the page
_SIDE = 144  # pixels of a thumbnail, twice what a page shows: sharp on dense screens
_QUALITY = 82  # WebP; no visible loss at this size
_EFFORT = 1  # of 0 to 6: a question has dozens of maps to compress


@dataclass(frozen=True)
class ProductQuestion:
    """A question of the test split, and its reference answer."""

    question: str
    answer: str


@dataclass(frozen=True)
class PageProduct:
    """A product that can be asked about.

    Attributes:
        image_path: its image in the archive.
        name: its name in the catalogue.
        product_type: its type, in words.
        thumbnail: a small copy of the image, as an address that a page can hold.
        questions: the test split's questions about the image.
    """

    image_path: str
    name: str
    product_type: str
    thumbnail: str
    questions: tuple[ProductQuestion, ...]


class Products:
    """Some products, and their images.

    Args:
        products: the products.
        archive: where their images are; None if there are none.
    """

    def __init__(self, products: Sequence[PageProduct], archive: Archive | None) -> None:
        self.products = tuple(products)
        self._archive = archive

    @classmethod
    def read(cls, config: Config) -> Products:
        """Read the products of the test split; none if there is no such split yet.

        Args:
            config: the settings.
        """
        try:
            test = read_table(TEST, ["image_path", "question", "answer"])
            balanced = read_table(BALANCED, ["image_path", "name", "product_type"])
            archive = open_archive(config.data.raw)
        except UserError as error:
            logger.warning(f"the page offers no products to choose from: {error}")
            return cls((), None)
        rows = test[["image_path", "question", "answer"]].merge(
            balanced.drop_duplicates("image_path"), on="image_path"
        )
        return cls(tuple(_read_products(rows, archive)), archive)

    def image(self, position: int) -> Image.Image:
        """Return a product's image in RGB.

        Args:
            position: the product's, from 0.

        Raises:
            UserError: there is no such product, or its image can't be read.
        """
        if self._archive is None or not 0 <= position < len(self.products):
            raise UserError("this product isn't on the page any more. Load the page again.")
        return self._archive.image(self.products[position].image_path)


def _read_products(rows: pd.DataFrame, archive: Archive) -> Iterator[PageProduct]:
    """Yield `_COUNT` products with readable images.

    They are taken from one type after another, so that the page has many kinds.
    """
    groups = {str(path): group for path, group in rows.groupby("image_path", sort=True)}
    kinds = pd.Series({path: group["product_type"].iloc[0] for path, group in groups.items()})
    rank = kinds.groupby(kinds).cumcount()
    order = sorted(groups, key=lambda path: (rank[path], kinds[path], path))
    count = 0
    for path in order:
        group = groups[path]
        try:
            thumbnail = thumbnail_uri(archive.image(path))
        except ImageError as error:
            logger.warning(f"left out of the page: {error}")
            continue
        questions = zip(group["question"], group["answer"], strict=True)
        yield PageProduct(
            path,
            group["name"].iloc[0],
            kinds[path].replace("_", " ").lower(),
            thumbnail,
            tuple(ProductQuestion(*pair) for pair in questions),
        )
        count += 1
        if count == _COUNT:
            return


def thumbnail_uri(image: Image.Image, side: int = _SIDE) -> str:
    """Return a small copy of an image as an address that a page can hold.

    Args:
        image: the image.
        side: maximum pixels per side.
    """
    small = image.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return webp_uri(small)


def webp_uri(image: Image.Image) -> str:
    """Return an image, which may be transparent, as an address that a page can hold."""
    buffer = BytesIO()
    image.save(buffer, "WEBP", quality=_QUALITY, method=_EFFORT)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
