"""Attention maps as images to lay over a photo, and in words for those who can't see them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from abo_vqa.serving.page.products import webp_uri

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SIDE = 128  # pixels of a map; a page stretches it over the photo
STRONGEST = 8
"""How many times the even share of attention has the darkest colour."""
# From the even share up: transparent, then the report's orange and vermilion, then a dark red. Each
# is darker than the one before, so the order is seen without colours, too.
_STOPS = np.array([0.0, 0.4, 0.75, 1.0])
_COLORS = np.array([[255, 205, 90, 0], [230, 159, 0, 165], [213, 94, 0, 215], [105, 8, 8, 240]])
_ROWS = ("top", "middle", "bottom")
_COLUMNS = ("left", "centre", "right")


def overlay_uri(attention: NDArray[np.float64]) -> str:
    """Return a map as a transparent image.

    All maps have one scale, so they can be compared: a place is as dark as its attention exceeds,
    on a logarithmic scale, what it would have if the image's attention were spread evenly.

    Args:
        attention: [H, W].
    """
    even = max(float(attention.mean()), 1e-12)
    image = Image.fromarray((attention / even).astype(np.float32))
    smooth = np.asarray(image.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR))
    strength = np.log(smooth.clip(1)) / np.log(STRONGEST)  # clipped at 1 by the colours
    channels = [np.interp(strength, _STOPS, _COLORS[:, c]) for c in range(4)]
    return webp_uri(Image.fromarray(np.stack(channels, axis=-1).round().astype(np.uint8)))


def strongest_place(attention: NDArray[np.float64]) -> str:
    """Return where in the image most of the attention is, in words.

    Args:
        attention: [H, W].
    """
    thirds = [np.array_split(rows, 3, axis=1) for rows in np.array_split(attention, 3)]
    strongest = int(np.argmax([[part.sum() for part in row] for row in thirds]))
    row, column = divmod(strongest, 3)
    if (row, column) == (1, 1):
        return "the centre"
    return f"the {_ROWS[row]} {_COLUMNS[column]}".replace("middle ", "")
