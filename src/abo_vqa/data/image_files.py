"""Picture files that users give: one typed error for whatever is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from abo_vqa.core.errors import UserError

if TYPE_CHECKING:
    from PIL import Image
from abo_vqa.data.image_decoding import UnreadableImageError, decode


def load_image(path: str | Path) -> Image.Image:
    """A picture file of any format that `abo_vqa.data.image_decoding` reads, as RGB.

    Raises:
        ImageError: missing or unreadable.
    """
    path = Path(path)
    try:
        return decode(path.read_bytes(), path.name)
    except OSError as error:
        raise ImageError(str(path), error.strerror or "can't be opened") from error
    except UnreadableImageError as error:
        raise ImageError(str(path), str(error)) from error


class ImageError(UserError):
    """A picture that can't be had: missing, empty, not a JPEG, absurd, damaged."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"picture {self.path}: {self.reason}"
