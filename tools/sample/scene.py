"""From a description of a product to its picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from sample import furniture, home, tableware, wear
from sample.pen import Pen
from sample.studio import RGB, Chance, Studio
from sample.surface import skin

Drawer = Callable[[Pen, Chance, str], None]

DRAWERS: dict[str, Drawer] = {
    "BACKPACK": wear.backpack,
    "BED": furniture.bed,
    "BOOK": home.book,
    "BOTTLE": tableware.bottle,
    "BOWL": tableware.bowl,
    "CANDLE": tableware.candle,
    "CELLULAR_PHONE_CASE": home.phone_case,
    "CHAIR": furniture.chair,
    "CLOCK": home.clock,
    "GUITAR": home.guitar,
    "HANDBAG": wear.handbag,
    "HAT": wear.hat,
    "KETTLE": tableware.kettle,
    "KEYCHAIN": home.keychain,
    "LAMP": furniture.lamp,
    "MIRROR": home.mirror,
    "MUG": tableware.mug,
    "PILLOW": home.pillow,
    "PLATE": tableware.plate,
    "RING": wear.ring,
    "RUG": home.rug,
    "SHELF": furniture.shelf,
    "SHOES": wear.shoes,
    "SOFA": furniture.sofa,
    "SPOON": tableware.spoon,
    "STOOL": furniture.stool,
    "SUITCASE": furniture.suitcase,
    "TABLE": furniture.table,
    "UMBRELLA": wear.umbrella,
    "VASE": tableware.vase,
    "WATCH": wear.watch,
}

# Seen from above, or lying: any rotation, no floor.
LYING = {
    "CELLULAR_PHONE_CASE",
    "KEYCHAIN",
    "PLATE",
    "RING",
    "RUG",
    "SPOON",
    "WATCH",
    "CLOCK",
    "PILLOW",
    "MIRROR",
    "BOOK",
}
FREE = {"CELLULAR_PHONE_CASE", "KEYCHAIN", "SPOON", "WATCH", "GUITAR", "BOOK"}


@dataclass(frozen=True)
class Look:
    """What can be seen in a picture, and the seeds of what varies beside it.

    Views of one product share `shape_seed` (proportions, variant) and differ in `view_seed`
    (pose, light, arrangement).
    """

    kind: str
    color: str
    material: str
    pattern: str
    form: str = ""
    count: int = 1
    shape_seed: int = 0
    view_seed: int = 0


def render(look: Look, size: int, studio: Studio) -> Image.Image:
    """The picture of `look`, RGB, size x size, drawn at twice the size."""
    view = Chance(look.view_seed)
    canvas = 2 * size
    tile = _item(look, canvas, studio)
    if view.among(2):
        tile = tile.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    page = _backdrop(canvas, studio, view)
    places, scale = _layout(look.count, studio, view)
    span = round(canvas * scale)
    small = tile.resize(
        (span, span), Image.Resampling.BOX if scale < 0.5 else Image.Resampling.BILINEAR
    )
    strength = view(*studio.shadow)
    for x, y in places:
        item = small.rotate(_angle(look.kind, studio, view), Image.Resampling.BICUBIC)
        left, top = round(x * canvas - span / 2), round(y * canvas - span / 2)
        _shadow(page, item, (left, top), strength, look.kind in LYING)
        page.paste(item.convert("RGB"), (left, top), item.getchannel("A"))
    page = _light(page, view)
    return page.resize((size, size), Image.Resampling.LANCZOS)


def _item(look: Look, size: int, studio: Studio) -> Image.Image:
    """One product on a transparent tile [size, size], RGBA."""
    shape = Chance(look.shape_seed, studio.outer)
    rgb = _shade_of(studio.palette[look.color], studio, shape)
    cells = (5.0 if look.count > 2 else 7.5 if look.count > 1 else 9.0) * shape(0.9, 1.1)
    texture = skin(size, rgb, look.material, look.pattern, cells, studio, shape)
    pen = Pen(size, texture, rgb, look.material, studio.outline * (1.5 if look.count > 2 else 1))
    DRAWERS[look.kind](pen, shape, look.form)
    return pen.layer


def _shade_of(rgb: RGB, studio: Studio, chance: Chance) -> RGB:
    moved = [round(min(255, max(0, v + chance.rng.normal(0, studio.jitter)))) for v in rgb]
    return (moved[0], moved[1], moved[2])


def _backdrop(size: int, studio: Studio, view: Chance) -> Image.Image:
    low, high = studio.background
    page = Image.new("RGB", (size, size), (255, 255, 255))
    ramp = Image.linear_gradient("L").resize((size, size))
    floor = view(low, high)
    return Image.composite(Image.new("RGB", (size, size), (round(floor),) * 3), page, ramp)


def _layout(count: int, studio: Studio, view: Chance) -> tuple[list[tuple[float, float]], float]:
    """Centres of `count` items and their size, in units of the canvas."""
    row = studio.row and view.among(3) == 0
    if count == 1:
        spots, scale = [(0.5, 0.5)], view(0.74, 0.94)
    elif count == 2:
        spots, scale = [(0.27, 0.5), (0.73, 0.5)], view(0.42, 0.46)
        if not studio.row and view.among(2):
            spots = [(0.28, 0.3), (0.72, 0.7)]
    elif count == 3:
        spots, scale = [(0.5, 0.26), (0.26, 0.73), (0.74, 0.73)], view(0.38, 0.43)
        if row:
            spots, scale = [(0.18, 0.5), (0.5, 0.5), (0.82, 0.5)], view(0.29, 0.31)
    elif count == 4:
        spots, scale = [(0.27, 0.27), (0.73, 0.27), (0.27, 0.74), (0.73, 0.74)], view(0.37, 0.43)
    else:
        spots, scale = (
            [(0.22, 0.24), (0.78, 0.24), (0.5, 0.5), (0.22, 0.77), (0.78, 0.77)],
            view(0.29, 0.33),
        )
        if row:
            spots = [(0.2, 0.3), (0.5, 0.3), (0.8, 0.3), (0.34, 0.7), (0.66, 0.7)]
            scale = view(0.27, 0.3)
    slack = 0.015 if count > 1 else 0.03
    return [(x + view(-slack, slack), y + view(-slack, slack)) for x, y in spots], scale


def _angle(kind: str, studio: Studio, view: Chance) -> float:
    return (
        view(-180, 180) if kind in FREE and view.among(3) == 0 else view(-studio.turn, studio.turn)
    )


def _shadow(
    page: Image.Image, item: Image.Image, at: tuple[int, int], strength: float, lying: bool
) -> None:
    """Darkens the page under an item: beside one that lies, on the floor under one that stands."""
    box = item.getchannel("A").getbbox()
    if box is None or strength <= 0:
        return
    blur = ImageFilter.GaussianBlur(item.width * 0.025)
    mask = Image.new("L", page.size, 0)
    if lying:
        off = round(item.width * 0.022)
        mask.paste(item.getchannel("A"), (at[0] + off, at[1] + off))
    else:
        x0, x1 = at[0] + box[0], at[0] + box[2]
        y, high = at[1] + box[3], item.width * 0.035
        ImageDraw.Draw(mask).ellipse((x0, y - high * 1.6, x1, y + high * 0.6), fill=255)
    near = (
        max(0, at[0] - 40),
        max(0, at[1] - 40),
        min(page.width, at[0] + item.width + 40),
        min(page.height, at[1] + item.height + 40),
    )
    soft = mask.crop(near).filter(blur).point(lambda v: round(v * strength))
    page.paste((60, 60, 70), near, soft)


def _light(page: Image.Image, view: Chance) -> Image.Image:
    """A slight fall of light across the picture."""
    angle = view(0, 360)
    ramp = Image.linear_gradient("L").rotate(angle, Image.Resampling.BILINEAR)
    ramp = ramp.crop((64, 64, 192, 192)).resize(page.size)  # inside the turned square
    depth = view(0.0, 0.05)
    return ImageChops.multiply(page, ramp.point(lambda v: round(255 - depth * v)).convert("RGB"))
