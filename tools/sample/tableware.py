"""Drawings of what stands on a table."""

from __future__ import annotations

from sample.pen import DARK, STEEL, Pen, arc, mirrored, smooth
from sample.studio import Chance

FLOOR = 0.93
INSIDE = 0.55  # how much darker the inside of a vessel is


def mug(pen: Pen, at: Chance, form: str) -> None:
    """A straight mug with its handle at the right."""
    left, right, top = at(0.16, 0.2), at(0.66, 0.7), at(0.2, 0.28)
    taper, ry = at(0.0, 0.04), at(0.05, 0.07)
    cx, rx = (left + right) / 2, (right - left) / 2
    hy = (top + FLOOR) / 2
    pen.ring(right, hy, at(0.18, 0.2), at(0.18, 0.22), at(0.055, 0.07), tone=0.88)
    wall = [(left, top), *arc(cx, FLOOR - ry, rx - taper, ry, 180, 0), (right, top)]
    pen.poly(wall, volume="column")
    pen.oval(cx, top, rx, ry)
    pen.oval(cx, top + 0.005, rx - 0.03, ry - 0.018, tone=INSIDE)


def bowl(pen: Pen, at: Chance, form: str) -> None:
    """A wide bowl on a small foot."""
    top, rx, ry = at(0.38, 0.45), at(0.42, 0.46), at(0.1, 0.14)
    deep, foot = at(0.38, 0.44), at(0.13, 0.17)
    pen.box(0.5 - foot, top + deep - 0.04, 0.5 + foot, top + deep + 0.04, tone=0.75)
    pen.poly(arc(0.5, top, rx, deep, 0, 180), volume="ball")
    pen.oval(0.5, top, rx, ry)
    pen.oval(0.5, top + 0.01, rx - 0.035, ry - 0.025, tone=0.66)


def plate(pen: Pen, at: Chance, form: str) -> None:
    """A plate from above, its well drawn inside its rim."""
    r, well = at(0.42, 0.46), at(0.64, 0.72)
    if form == "square":
        pen.box(0.5 - r, 0.5 - r, 0.5 + r, 0.5 + r, r=0.12)
        q = r * well
        pen.box(0.5 - q, 0.5 - q, 0.5 + q, 0.5 + q, r=0.09, tone=0.93)
        return
    pen.oval(0.5, 0.5, r)
    pen.oval(0.5, 0.5, r * 0.95, tone=0.98)
    pen.oval(0.5, 0.5, r * well, tone=0.9)
    pen.oval(0.505, 0.51, r * well * 0.94, tone=0.98)


def bottle(pen: Pen, at: Chance, form: str) -> None:
    """A bottle with shoulders and a cap."""
    half, neck = at(0.15, 0.19), at(0.05, 0.07)
    shoulder, throat = at(0.36, 0.44), at(0.2, 0.26)
    pen.poly(
        mirrored(
            [
                (0.5 + neck, 0.12),
                (0.5 + neck, throat),
                (0.5 + half * 0.8, shoulder - 0.07),
                (0.5 + half, shoulder + 0.02),
                (0.5 + half, FLOOR - 0.03),
                (0.5 + half - 0.03, FLOOR),
            ]
        ),
        volume="column",
    )
    cap = (196, 198, 204) if at.among(2) else DARK
    pen.box(0.5 - neck - 0.015, 0.05, 0.5 + neck + 0.015, 0.14, r=0.015, paint=cap, volume="column")


def kettle(pen: Pen, at: Chance, form: str) -> None:
    """A tea kettle: round body, spout at the right, handle over the top."""
    rx, cy = at(0.27, 0.31), at(0.62, 0.66)
    ry, lid = FLOOR - cy, at(0.11, 0.15)
    pen.ring(0.45, cy - ry * 0.75, rx * 0.72, at(0.27, 0.32), 0.045, paint=DARK)
    pen.poly(
        smooth(
            [
                (0.62, cy - 0.02),
                (0.8, cy - 0.14),
                (0.88, at(0.36, 0.42)),
                (0.95, at(0.36, 0.4)),
                (0.92, cy - 0.06),
                (0.7, cy + 0.17),
            ]
        ),
        tone=0.88,
    )
    pen.oval(0.45, cy, rx, ry, volume="ball")
    pen.box(0.45 - rx * 0.7, FLOOR - 0.05, 0.45 + rx * 0.7, FLOOR + 0.01, r=0.02, tone=0.7)
    pen.poly(arc(0.45, cy - ry * 0.8, lid, 0.07, 180, 360), tone=0.9)
    pen.oval(0.45, cy - ry * 0.8 - 0.085, 0.032, paint=DARK)


def vase(pen: Pen, at: Chance, form: str) -> None:
    """A bellied vase, now and then with a few twigs in it."""
    belly, neck, lip = at(0.21, 0.27), at(0.07, 0.1), at(0.12, 0.15)
    low, top = at(0.58, 0.68), at(0.2, 0.26)
    if at.among(2):
        for k, x in enumerate((0.36, 0.5, 0.63)):
            pen.stroke([(0.5, top + 0.02), (x, 0.06 + 0.03 * (k % 2))], 0.016, paint=(96, 136, 84))
            pen.oval(x, 0.06 + 0.03 * (k % 2), 0.034, 0.045, paint=(120, 158, 100))
    outline = [
        (0.5 + lip, top),
        (0.5 + neck, top + 0.1),
        (0.5 + belly * 0.8, low - 0.16),
        (0.5 + belly, low),
        (0.5 + belly * 0.75, FLOOR - 0.09),
        (0.5 + 0.12, FLOOR),
    ]
    curve = smooth([*outline, *((1 - x, y) for x, y in reversed(outline))])
    pen.poly(curve, volume="column")
    pen.oval(0.5, top + 0.005, lip * 0.95, 0.028, tone=INSIDE)


def candle(pen: Pen, at: Chance, form: str) -> None:
    """A pillar candle with a flame, on a small dish."""
    half, top = at(0.15, 0.19), at(0.38, 0.46)
    pen.oval(0.5, FLOOR - 0.05, half + 0.13, 0.06, paint=STEEL)
    pen.poly(
        [(0.5 - half, top), *arc(0.5, FLOOR - 0.06, half, 0.045, 180, 0), (0.5 + half, top)],
        volume="column",
    )
    pen.oval(0.5, top, half, 0.045, tone=0.93)
    pen.stroke([(0.5, top), (0.505, top - 0.08)], 0.018, paint=DARK)
    tip, wide = top - at(0.26, 0.31), at(0.05, 0.065)
    pen.poly(
        smooth([(0.5, tip), (0.5 + wide, top - 0.13), (0.5, top - 0.05), (0.5 - wide, top - 0.13)]),
        paint=(252, 170, 40),
    )
    pen.poly(
        smooth(
            [
                (0.5, tip + 0.1),
                (0.5 + wide / 2, top - 0.11),
                (0.5, top - 0.06),
                (0.5 - wide / 2, top - 0.11),
            ]
        ),
        paint=(255, 236, 130),
    )


def spoon(pen: Pen, at: Chance, form: str) -> None:
    """A spoon, upright."""
    bowl_ry, half = at(0.16, 0.19), at(0.1, 0.125)
    pen.poly(
        mirrored([(0.5 + 0.02, 0.32), (0.5 + 0.028, 0.6), (0.5 + 0.05, 0.9), (0.5 + 0.03, 0.95)])
    )
    pen.oval(0.5, 0.06 + bowl_ry, half, bowl_ry, volume="ball")
    pen.oval(0.5, 0.07 + bowl_ry, half * 0.72, bowl_ry * 0.74, tone=0.78)
