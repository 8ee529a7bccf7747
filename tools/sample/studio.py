"""The two studios: the sample's pictures and those the small checkpoints are trained on.

They differ in everything a domain gap is made of: the RGB behind a colour's name, the
proportions of shapes, the drawing of patterns, the light and the arrangement of several items.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

RGB = tuple[int, int, int]

MATERIALS = ("wood", "metal", "glass", "plastic", "ceramic", "leather", "fabric")
PATTERNS = ("solid", "striped", "dotted", "checkered", "floral")

SAMPLE_PALETTE: dict[str, RGB] = {
    "black": (40, 40, 44),
    "white": (246, 245, 241),
    "gray": (142, 144, 148),
    "red": (202, 36, 42),
    "orange": (240, 126, 30),
    "yellow": (246, 208, 52),
    "green": (52, 144, 74),
    "blue": (40, 88, 188),
    "purple": (122, 60, 164),
    "pink": (242, 150, 186),
    "brown": (120, 74, 42),
}

PRETRAINING_PALETTE: dict[str, RGB] = {
    "black": (26, 30, 48),
    "white": (232, 234, 242),
    "gray": (168, 160, 150),
    "red": (174, 24, 66),
    "orange": (250, 150, 84),
    "yellow": (216, 188, 24),
    "green": (118, 178, 64),
    "blue": (64, 146, 214),
    "purple": (92, 48, 128),
    "pink": (226, 96, 156),
    "brown": (152, 104, 66),
}


@dataclass(frozen=True)
class Studio:
    """Parameters of a drawing distribution.

    Attributes:
        palette: colour name -> RGB.
        jitter: standard deviation added to each RGB channel, in 0..255.
        outer: draw proportions from the margins around each interval, not from inside it.
        stripes: angles in degrees that stripes may have.
        petals: petals of the flowers of a floral pattern.
        outline: width of outlines, a fraction of the item's tile.
        shadow: darkness of the floor shadow, 0..1.
        background: lowest and highest grey level of the backdrop.
        turn: largest rotation in degrees of an upright product.
        row: several items may stand in one row.
    """

    palette: dict[str, RGB] = field(repr=False)
    jitter: float
    outer: bool
    stripes: tuple[int, ...]
    petals: int
    outline: float
    shadow: tuple[float, float]
    background: tuple[int, int]
    turn: float
    row: bool


SAMPLE = Studio(
    palette=SAMPLE_PALETTE,
    jitter=7.0,
    outer=False,
    stripes=(0, 90),
    petals=5,
    outline=0.007,
    shadow=(0.28, 0.5),
    background=(252, 255),
    turn=6.0,
    row=True,
)

PRETRAINING = Studio(
    palette=PRETRAINING_PALETTE,
    jitter=16.0,
    outer=True,
    stripes=(30, 45, 135, 150, 90),
    petals=4,
    outline=0.012,
    shadow=(0.0, 0.35),
    background=(236, 250),
    turn=12.0,
    row=False,
)


class Chance:
    """Seeded draws of a product's proportions."""

    def __init__(self, seed: int, outer: bool = False) -> None:
        self.rng = np.random.default_rng(seed)
        self.outer = outer

    def __call__(self, low: float, high: float) -> float:
        """A number in [low, high]; from the margins of half that width outside it if `outer`."""
        u = float(self.rng.random())
        if self.outer:  # [-0.5, 0.1] or [0.9, 1.5] of the interval
            u = u * 1.2 - 0.5 if u < 0.5 else u * 1.2 + 0.3
        return low + u * (high - low)

    def among(self, n: int) -> int:
        """An integer in 0..n-1."""
        return int(self.rng.integers(n))
