"""The image that models are asked about: the first of the archives, else a drawn one."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from abo_vqa.commands.doctor.findings import Checkout
from abo_vqa.core.errors import RetryLaterError, UserError
from abo_vqa.core.paths import SAMPLE_DATA

if TYPE_CHECKING:
    from PIL.Image import Image

_TRIES = 20  # images: archives have broken ones


def sample_image(case: Checkout) -> tuple[str, Image]:
    """Return where the image is from, and the image.

    Args:
        case: the checkout.
    """
    from abo_vqa.data.archive import open_archive
    from abo_vqa.data.image_files import ImageError

    for raw in dict.fromkeys((case.settings.data.raw, SAMPLE_DATA)):
        # What is wrong with archives is another check's finding.
        with suppress(UserError, RetryLaterError), open_archive(raw) as archive:
            for path in archive.image_paths()[:_TRIES]:
                with suppress(ImageError):
                    return f"{raw}: {path}", archive.image(path)
    return "a drawn square, since no archive could be read", _drawn()


def _drawn() -> Image:
    """Draw a red square on white."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (256, 256), "white")
    ImageDraw.Draw(image).rectangle((64, 64, 192, 192), "red")
    return image
