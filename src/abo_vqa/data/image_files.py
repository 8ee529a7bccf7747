"""Image files that users name, and the one error for whatever is wrong with an image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from abo_vqa.core.errors import UserError
from abo_vqa.data.image_decoding import UnreadableImageError, decode

if TYPE_CHECKING:
    from PIL import Image


class ImageError(UserError):
    """An image that is missing or can't be decoded.

    Attributes:
        path: the image, as the user or the archive names it.
        reason: a short phrase.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"image {self.path}: {self.reason}"


def load_image(path: str | Path) -> Image.Image:
    """Load an image file of any format that `image_decoding.decode` knows, as RGB.

    Args:
        path: the file.

    Raises:
        ImageError: the file is missing or unreadable.
    """
    path = Path(path)
    try:
        return decode(path.read_bytes(), path.name)
    except OSError as error:
        raise ImageError(str(path), error.strerror or "can't be opened") from error
    except UnreadableImageError as error:
        raise ImageError(str(path), str(error)) from error
