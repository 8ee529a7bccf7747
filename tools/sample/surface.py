"""What a product's skin looks like: its pattern, its material, and how light falls on it."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops, ImageDraw

from sample.studio import RGB, Chance, Studio

Field = npt.NDArray[np.floating]

MAP = 96  # light maps are computed at this size and stretched over a part


def mix(a: RGB, b: RGB, share: float) -> RGB:
    """`a` with a share of `b`."""
    x, y, z = (round(p + (q - p) * share) for p, q in zip(a, b, strict=True))
    return (x, y, z)


def luminance(rgb: RGB) -> float:
    """Rec. 601 luma, 0..255."""
    return 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]


def second_color(rgb: RGB) -> RGB:
    """The colour of a pattern on `rgb`: pale on dark, dark on pale."""
    if luminance(rgb) > 190:
        return mix(rgb, (70, 70, 78), 0.62)
    return mix(rgb, (255, 253, 246), 0.82)


def skin(
    size: int, rgb: RGB, material: str, pattern: str, cells: float, studio: Studio, chance: Chance
) -> Image.Image:
    """A size x size RGB texture; `cells` is the number of pattern periods across it."""
    image = Image.new("RGB", (size, size), rgb)
    _PATTERNS[pattern](image, rgb, cells, studio, chance)
    grain = _GRAINS.get(material)
    return ImageChops.multiply(image, grain(size, chance)) if grain else image


# --- patterns ------------------------------------------------------------------------------


def _solid(image: Image.Image, rgb: RGB, cells: float, studio: Studio, chance: Chance) -> None:
    return None


def _striped(image: Image.Image, rgb: RGB, cells: float, studio: Studio, chance: Chance) -> None:
    size = image.width
    angle = math.radians(studio.stripes[chance.among(len(studio.stripes))])
    dx, dy = math.cos(angle), math.sin(angle)
    draw, step, ink = ImageDraw.Draw(image), size / cells, second_color(rgb)
    width = round(step * chance(0.36, 0.46))
    for k in range(-math.ceil(cells), math.ceil(cells) + 1):
        cx, cy = size / 2 - dy * k * step, size / 2 + dx * k * step
        reach = size * 1.5
        ends = (cx - dx * reach, cy - dy * reach, cx + dx * reach, cy + dy * reach)
        draw.line(ends, fill=ink, width=width)


def _dotted(image: Image.Image, rgb: RGB, cells: float, studio: Studio, chance: Chance) -> None:
    size = image.width
    draw, step, ink = ImageDraw.Draw(image), size / cells, second_color(rgb)
    radius = step * chance(0.26, 0.32)
    for row in range(math.ceil(cells) + 1):
        for column in range(-1, math.ceil(cells) + 1):
            x, y = (column + 0.5 * (row % 2)) * step, row * step
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=ink)


def _checkered(image: Image.Image, rgb: RGB, cells: float, studio: Studio, chance: Chance) -> None:
    size = image.width
    draw, step, ink = ImageDraw.Draw(image), size / cells * 0.8, second_color(rgb)
    for row in range(math.ceil(size / step)):
        for column in range(row % 2, math.ceil(size / step), 2):
            x, y = column * step, row * step
            draw.rectangle((x, y, x + step - 1, y + step - 1), fill=ink)


def _floral(image: Image.Image, rgb: RGB, cells: float, studio: Studio, chance: Chance) -> None:
    size = image.width
    draw, step, ink = ImageDraw.Draw(image), size / cells * 1.35, second_color(rgb)
    heart: RGB = (250, 196, 40) if rgb[2] > 110 or rgb[0] < 180 else (120, 60, 30)
    for row in range(math.ceil(size / step) + 1):
        for column in range(-1, math.ceil(size / step) + 1):
            x = (column + 0.5 * (row % 2) + 0.12 * (chance.rng.random() - 0.5)) * step
            y = (row + 0.12 * (chance.rng.random() - 0.5)) * step
            turn = chance.rng.random() * math.tau
            petal, far = step * 0.17, step * 0.22
            for k in range(studio.petals):
                a = turn + math.tau * k / studio.petals
                px, py = x + far * math.cos(a), y + far * math.sin(a)
                draw.ellipse((px - petal, py - petal, px + petal, py + petal), fill=ink)
            core = step * 0.12
            draw.ellipse((x - core, y - core, x + core, y + core), fill=heart)


_PATTERNS = {
    "solid": _solid,
    "striped": _striped,
    "dotted": _dotted,
    "checkered": _checkered,
    "floral": _floral,
}

# --- materials: what multiplies the skin ------------------------------------------------------


def _noise(size: int, cells: tuple[int, int], chance: Chance) -> Field:
    """Smooth noise in 0..1, [size, size], with cells = (rows, columns) of detail."""
    coarse = Image.fromarray(chance.rng.random(cells).astype(np.float32))
    fine = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC))
    smooth: Field = np.clip(fine, 0, 1)
    return smooth


def _grey(values: Field) -> Image.Image:
    return Image.fromarray((values.clip(0, 1) * 255).astype(np.uint8)).convert("RGB")


def _wood(size: int, chance: Chance) -> Image.Image:
    y = np.linspace(0, 1, size, dtype=np.float32)[:, None]
    phase = y * chance(9, 12) + 1.5 * _noise(size, (4, 3), chance)
    rings = 0.5 + 0.5 * np.sin(2 * np.pi * phase)
    fibre = _noise(size, (48, 6), chance)
    grain = 1 - 0.34 * rings**3 - 0.16 * fibre
    return _grey(grain if chance.among(2) else grain.T)


def _fabric(size: int, chance: Chance) -> Image.Image:
    t = np.arange(size, dtype=np.float32) / size * chance(26, 32) * 2 * np.pi
    weave = 0.5 + 0.25 * (np.sin(t)[:, None] * np.ones_like(t) + np.sin(t)[None, :])
    speck = _noise(size, (64, 64), chance)
    return _grey(0.74 + 0.17 * weave + 0.14 * speck)


def _leather(size: int, chance: Chance) -> Image.Image:
    blotch = _noise(size, (7, 7), chance)
    pores = _noise(size, (40, 40), chance)
    return _grey(0.62 + 0.38 * blotch**0.7 - 0.14 * (pores > 0.72))


_GRAINS = {"wood": _wood, "fabric": _fabric, "leather": _leather}

# --- light: how a part of a given volume and material is shaded ------------------------------


def _axes() -> tuple[Field, Field]:
    t = (np.arange(MAP, dtype=np.float32) + 0.5) / MAP
    return t[None, :] * np.ones((MAP, 1), np.float32), t[:, None] * np.ones((1, MAP), np.float32)


def _bump(t: Field, centre: float, width: float) -> Field:
    bump: Field = np.exp(-(((t - centre) / width) ** 2))
    return bump


@lru_cache(maxsize=64)
def shade(volume: str, material: str) -> Image.Image:
    """Multiplicative light map [MAP, MAP] (RGB) of a part; volume is flat, column or ball."""
    x, y = _axes()
    values: Field
    if volume == "column":
        values = 1 - 0.42 * np.abs(x - 0.36).clip(0, 1) ** 1.3 / 0.64**1.3
    elif volume == "ball":
        values = 1 - 0.5 * ((x - 0.36) ** 2 + (y - 0.3) ** 2)
    else:
        values = 1 - 0.12 * y
    if material == "metal":
        values = values * (1 - 0.5 * _bump(x, 0.46, 0.07) - 0.35 * _bump(x, 0.93, 0.08))
    return _grey(values)


@lru_cache(maxsize=64)
def gloss(material: str) -> Image.Image | None:
    """Where a material shines: alpha map [MAP, MAP] (L) of white, or None for a dull one."""
    x, y = _axes()
    alpha: Field
    if material == "metal":
        alpha = 0.8 * _bump(x, 0.24, 0.07) + 0.55 * _bump(x, 0.68, 0.05)
    elif material == "ceramic":
        alpha = 0.85 * np.exp(-(((x - 0.3) / 0.1) ** 2 + ((y - 0.27) / 0.16) ** 2))
    elif material == "plastic":
        inside = (np.abs(x - 0.17) < 0.045) & (np.abs(y - 0.42) < 0.3)
        dot = (np.abs(x - 0.17) < 0.045) & (np.abs(y - 0.84) < 0.045)
        alpha = 0.8 * (inside | dot)
    elif material == "glass":
        t = x + 0.6 * y
        alpha = 0.75 * ((np.abs(t - 0.5) < 0.07) | (np.abs(t - 0.72) < 0.03))
    elif material == "leather":
        alpha = 0.25 * _bump(y, 0.2, 0.16)
    else:
        return None
    return Image.fromarray((np.clip(alpha, 0, 1) * 255).astype(np.uint8))
