"""Drawing one product on a transparent tile: parts with a skin, a volume and an outline."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageChops, ImageDraw

from sample.studio import RGB
from sample.surface import gloss, luminance, mix, shade

Point = tuple[float, float]

STEEL: RGB = (176, 180, 186)
DARK: RGB = (58, 56, 62)
TIMBER: RGB = (170, 122, 76)
PALE: RGB = (250, 249, 244)
GOLD: RGB = (212, 170, 70)
GREEN: RGB = (84, 140, 70)

GLASS_ALPHA = 0.7  # how much of the backdrop a glass product hides


class Pen:
    """Draws parts in unit coordinates (x right, y down, 0..1) on a `size` pixel tile.

    A part without `paint` carries the product's own skin, of its material; `paint` makes it a
    fitting of a plain colour (a clock's hands, a lamp's foot).
    """

    def __init__(self, size: int, skin: Image.Image, rgb: RGB, material: str, outline: float):
        self.size, self.skin, self.rgb, self.material = size, skin, rgb, material
        self.width = max(1, round(size * outline))
        self.layer = Image.new("RGBA", (size, size), (255, 255, 255, 0))

    def poly(
        self,
        points: Sequence[Point],
        paint: RGB | None = None,
        volume: str = "flat",
        tone: float = 1.0,
        holes: Sequence[Sequence[Point]] = (),
    ) -> None:
        """A filled polygon; `tone` < 1 darkens it, `holes` are cut out of it."""
        scaled = [(x * self.size, y * self.size) for x, y in points]
        xs, ys = [p[0] for p in scaled], [p[1] for p in scaled]
        box = (
            max(0, math.floor(min(xs))),
            max(0, math.floor(min(ys))),
            min(self.size, math.ceil(max(xs)) + 1),
            min(self.size, math.ceil(max(ys)) + 1),
        )
        if box[2] <= box[0] or box[3] <= box[1]:
            return
        local = [(x - box[0], y - box[1]) for x, y in scaled]
        mask = Image.new("L", (box[2] - box[0], box[3] - box[1]), 0)
        draw = ImageDraw.Draw(mask)
        draw.polygon(local, fill=255)
        cut = [[(x * self.size - box[0], y * self.size - box[1]) for x, y in h] for h in holes]
        for hole in cut:
            draw.polygon(hole, fill=0)
        self._stamp(mask, box, paint, volume, tone)
        self._outline(
            [scaled, *([(x * self.size, y * self.size) for x, y in h] for h in holes)], paint, tone
        )

    def _stamp(
        self,
        mask: Image.Image,
        box: tuple[int, int, int, int],
        paint: RGB | None,
        volume: str,
        tone: float,
    ) -> None:
        material = "plain" if paint else self.material
        patch = Image.new("RGB", mask.size, paint) if paint else self.skin.crop(box)
        light = shade(volume, material).resize(mask.size, Image.Resampling.BILINEAR)
        if tone < 1:
            light = light.point(lambda v: round(v * tone))
        patch = ImageChops.multiply(patch, light)
        shine = gloss(material)
        if shine is not None and min(mask.size) > self.size * 0.08:
            shine = shine.resize(mask.size, Image.Resampling.BILINEAR)
            patch.paste((255, 255, 255), (0, 0), shine)
        if material == "glass":
            mask = mask.point(lambda v: round(v * GLASS_ALPHA))
        tile = patch.convert("RGBA")
        tile.putalpha(mask)
        self.layer.alpha_composite(tile, (box[0], box[1]))

    def _outline(self, rings: list[list[Point]], paint: RGB | None, tone: float) -> None:
        rgb = paint or self.rgb
        dark = luminance(rgb) < 70
        edge = mix(rgb, (255, 255, 255), 0.22) if dark else mix(rgb, (30, 26, 34), 0.42)
        draw = ImageDraw.Draw(self.layer)
        for ring in rings:
            draw.line(
                [*ring, ring[0], ring[1]],
                fill=(*mix(edge, (0, 0, 0), 1 - tone), 255),
                width=self.width,
                joint="curve",
            )

    def box(
        self,
        x0: float,
        y0: float,
        x1: float,
        y1: float,
        r: float = 0.0,
        paint: RGB | None = None,
        volume: str = "flat",
        tone: float = 1.0,
    ) -> None:
        """A rectangle with corners rounded by `r`."""
        self.poly(rounded(x0, y0, x1, y1, r), paint, volume, tone)

    def oval(
        self,
        cx: float,
        cy: float,
        rx: float,
        ry: float | None = None,
        paint: RGB | None = None,
        volume: str = "flat",
        tone: float = 1.0,
    ) -> None:
        """An ellipse around (cx, cy)."""
        self.poly(arc(cx, cy, rx, rx if ry is None else ry), paint, volume, tone)

    def ring(
        self,
        cx: float,
        cy: float,
        rx: float,
        ry: float,
        width: float,
        paint: RGB | None = None,
        volume: str = "flat",
        tone: float = 1.0,
    ) -> None:
        """An elliptic band of the given width, open in the middle."""
        hole = arc(cx, cy, rx - width, ry - width)
        self.poly(arc(cx, cy, rx, ry), paint, volume, tone, holes=[hole])

    def stroke(
        self,
        points: Sequence[Point],
        width: float,
        paint: RGB | None = None,
        tone: float = 1.0,
        volume: str = "flat",
    ) -> None:
        """A thick open line."""
        left, right = [], []
        for i, (x, y) in enumerate(points):
            (ax, ay), (bx, by) = points[max(0, i - 1)], points[min(len(points) - 1, i + 1)]
            length = math.hypot(bx - ax, by - ay) or 1.0
            nx, ny = -(by - ay) / length * width / 2, (bx - ax) / length * width / 2
            left.append((x + nx, y + ny))
            right.append((x - nx, y - ny))
        self.poly([*left, *reversed(right)], paint, volume, tone)


def arc(
    cx: float, cy: float, rx: float, ry: float, start: float = 0.0, stop: float = 360.0
) -> list[Point]:
    """Points of an elliptic arc, degrees clockwise from the right."""
    steps = max(8, round(abs(stop - start) / 7.5))
    angles = [math.radians(start + (stop - start) * k / steps) for k in range(steps + 1)]
    return [(cx + rx * math.cos(a), cy + ry * math.sin(a)) for a in angles]


def rounded(x0: float, y0: float, x1: float, y1: float, r: float) -> list[Point]:
    """Points of a rectangle with rounded corners."""
    r = min(r, (x1 - x0) / 2, (y1 - y0) / 2)
    if r <= 0:
        return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    corners = [
        (x1 - r, y0 + r, -90),
        (x1 - r, y1 - r, 0),
        (x0 + r, y1 - r, 90),
        (x0 + r, y0 + r, 180),
    ]
    return [p for cx, cy, a in corners for p in arc(cx, cy, r, r, a, a + 90)]


def smooth(points: Sequence[Point], steps: int = 6) -> list[Point]:
    """A closed Catmull-Rom curve through the points."""
    out: list[Point] = []
    n = len(points)
    for i in range(n):
        p0, p1, p2, p3 = (points[(i + k) % n] for k in (-1, 0, 1, 2))
        for k in range(steps):
            t = k / steps
            a, b = 2 * t**3 - 3 * t**2 + 1, t**3 - 2 * t**2 + t
            c, d = -2 * t**3 + 3 * t**2, t**3 - t**2
            x, y = (
                a * p1[j] + b * (p2[j] - p0[j]) / 2 + c * p2[j] + d * (p3[j] - p1[j]) / 2
                for j in (0, 1)
            )
            out.append((x, y))
    return out


def mirrored(right: Sequence[Point], axis: float = 0.5) -> list[Point]:
    """A profile's right side (top to bottom) closed by its mirror image."""
    return [*right, *((2 * axis - x, y) for x, y in reversed(right))]
