"""Drawings of what people wear and carry."""

from __future__ import annotations

from sample.pen import DARK, GOLD, PALE, STEEL, Pen, arc, rounded, smooth
from sample.studio import Chance


def shoes(pen: Pen, at: Chance, form: str) -> None:
    """One low shoe from the side, toe to the right."""
    collar, heel, toe = at(0.34, 0.4), at(0.08, 0.12), at(0.9, 0.94)
    instep = at(0.5, 0.55)
    pen.poly(
        smooth(
            [
                (heel, collar),
                (heel + 0.16, collar + 0.05),
                (0.36, collar + 0.01),
                (0.5, instep - 0.04),
                (0.72, instep + 0.06),
                (toe, 0.66),
                (toe + 0.01, 0.76),
                (0.5, 0.78),
                (heel, 0.77),
                (heel - 0.01, 0.58),
            ]
        )
    )
    pen.oval(heel + 0.135, collar + 0.035, 0.115, 0.035, tone=0.5)
    sole = (244, 243, 238) if at.among(2) else DARK
    pen.poly(
        smooth(
            [
                (heel - 0.02, 0.74),
                (0.5, 0.755),
                (toe, 0.73),
                (toe + 0.03, 0.79),
                (toe - 0.02, 0.84),
                (0.4, 0.84),
                (heel, 0.85),
            ]
        ),
        paint=sole,
    )
    for k in range(4):
        x, y = 0.4 + 0.07 * k, collar + 0.06 + 0.045 * k
        pen.stroke([(x, y), (x - 0.055, y + 0.085)], 0.02, paint=PALE)


def hat(pen: Pen, at: Chance, form: str) -> None:
    """A brimmed hat with a band, or a cap with a visor."""
    if at.among(2):
        brim, crown, top = at(0.42, 0.46), at(0.22, 0.26), at(0.24, 0.3)
        pen.oval(0.5, 0.7, brim, at(0.11, 0.14), tone=0.92)
        pen.poly(
            smooth(
                [
                    (0.5 - crown, 0.68),
                    (0.5 - crown * 0.92, top + 0.08),
                    (0.5 - crown * 0.45, top),
                    (0.5, top + 0.035),
                    (0.5 + crown * 0.45, top),
                    (0.5 + crown * 0.92, top + 0.08),
                    (0.5 + crown, 0.68),
                    (0.5, 0.74),
                ]
            ),
            volume="column",
        )
        band = [*arc(0.5, 0.6, crown * 1.01, 0.06, 180, 0), *arc(0.5, 0.68, crown, 0.06, 0, 180)]
        pen.poly(band, paint=DARK)
        return
    dome = at(0.3, 0.34)
    pen.poly(smooth([(0.6, 0.62), (0.84, 0.66), (0.97, 0.76), (0.8, 0.77), (0.5, 0.72)]), tone=0.8)
    pen.poly(
        [*arc(0.43, 0.68, dome, at(0.38, 0.43), 180, 360), *arc(0.43, 0.68, dome, 0.05, 0, 180)],
        volume="ball",
    )
    pen.oval(0.43, 0.68 - 0.41, 0.03, 0.022, tone=0.7)
    pen.stroke([(0.43, 0.28), (0.5, 0.45), (0.53, 0.7)], 0.012, tone=0.6)


def backpack(pen: Pen, at: Chance, form: str) -> None:
    """A backpack from the front: flap, pocket, straps, top loop."""
    half, top = at(0.27, 0.31), at(0.15, 0.19)
    for side in (-1, 1):
        pen.stroke(
            [
                (0.5 + side * half * 0.8, 0.36),
                (0.5 + side * (half + 0.1), 0.55),
                (0.5 + side * half * 0.9, 0.86),
            ],
            0.06,
            tone=0.6,
        )
    pen.ring(0.5, top, 0.09, 0.09, 0.03, paint=DARK)
    pen.box(0.5 - half, top, 0.5 + half, 0.93, r=0.15, volume="column")
    flap = at(0.43, 0.48)
    pen.poly([*rounded(0.5 - half, top, 0.5 + half, flap, 0.12)], tone=0.93)
    pen.box(0.485, flap - 0.06, 0.515, flap + 0.05, paint=STEEL)
    pocket = at(0.56, 0.61)
    pen.box(0.5 - half * 0.72, pocket, 0.5 + half * 0.72, 0.88, r=0.05, tone=0.9)
    pen.box(0.5 - half * 0.6, pocket + 0.05, 0.5 + half * 0.6, pocket + 0.07, paint=DARK)


def handbag(pen: Pen, at: Chance, form: str) -> None:
    """A handbag with an arched handle and a clasp."""
    top, wide, narrow = at(0.42, 0.47), at(0.4, 0.44), at(0.28, 0.33)
    pen.ring(0.5, top + 0.02, at(0.19, 0.23), at(0.32, 0.37), 0.045, tone=0.7)
    pen.poly(
        smooth(
            [
                (0.5 - narrow, top),
                (0.5, top - 0.005),
                (0.5 + narrow, top),
                (0.5 + wide, 0.84),
                (0.5 + wide - 0.05, 0.93),
                (0.5, 0.94),
                (0.5 - wide + 0.05, 0.93),
                (0.5 - wide, 0.84),
            ]
        )
    )
    pen.poly(
        [
            (0.5 - narrow, top),
            (0.5 + narrow, top),
            (0.5 + narrow * 0.8, top + 0.17),
            (0.5 - narrow * 0.8, top + 0.17),
        ],
        tone=0.86,
    )
    pen.box(0.46, top + 0.12, 0.54, top + 0.21, r=0.015, paint=GOLD)


def watch(pen: Pen, at: Chance, form: str) -> None:
    """A wrist watch: strap above and below, dial in the middle."""
    strap, r = at(0.1, 0.13), at(0.21, 0.25)
    for y0, y1, narrow in ((0.04, 0.36, 0), (0.64, 0.96, 1)):
        a, b = (strap * 0.78, strap) if narrow == 0 else (strap, strap * 0.78)
        pen.poly([(0.5 - a, y0), (0.5 + a, y0), (0.5 + b, y1), (0.5 - b, y1)])
    for k in range(3):
        pen.oval(0.5, 0.79 + 0.05 * k, 0.012, paint=DARK)
    pen.box(0.5 + r, 0.475, 0.5 + r + 0.045, 0.525, paint=STEEL)
    pen.oval(0.5, 0.5, r)
    pen.oval(0.5, 0.5, r * 0.78, paint=PALE)
    for k in range(12):
        x, y = arc(0.5, 0.5, r * 0.64, r * 0.64, 30 * k, 30 * k + 1)[0]
        pen.oval(x, y, 0.011, paint=DARK)
    hour, minute = (
        arc(0.5, 0.5, r * q, r * q, a, a + 1)[0]
        for q, a in ((0.38, 30 * at.among(12)), (0.56, 30 * at.among(12)))
    )
    pen.stroke([(0.5, 0.5), hour], 0.022, paint=DARK)
    pen.stroke([(0.5, 0.5), minute], 0.014, paint=DARK)


def ring(pen: Pen, at: Chance, form: str) -> None:
    """A finger ring with a cut stone."""
    r, band = at(0.28, 0.32), at(0.075, 0.1)
    pen.ring(0.5, 0.62, r, r, band)
    top, wide = 0.62 - r + 0.06, at(0.13, 0.17)
    stone = ((170, 220, 240), (240, 244, 250), (200, 230, 220))[at.among(3)]
    pen.poly(
        [
            (0.5 - wide, top - 0.16),
            (0.5 - wide * 0.6, top - 0.24),
            (0.5 + wide * 0.6, top - 0.24),
            (0.5 + wide, top - 0.16),
            (0.5, top),
        ],
        paint=stone,
    )
    pen.poly(
        [(0.5 - wide * 0.45, top - 0.16), (0.5 + wide * 0.45, top - 0.16), (0.5, top)], paint=PALE
    )


def umbrella(pen: Pen, at: Chance, form: str) -> None:
    """An open umbrella with a crook handle."""
    r, base = at(0.43, 0.47), at(0.5, 0.55)
    pen.box(0.488, base - 0.05, 0.512, 0.85, paint=DARK)
    pen.poly(
        [*arc(0.44, 0.85, 0.072, 0.09, 0, 180), *arc(0.44, 0.85, 0.042, 0.055, 180, 0)],
        paint=(130, 86, 52),
    )
    scallops = []
    for k in range(4):
        cx = 0.5 + r - r / 4 - k * r / 2
        scallops += arc(cx, base, r / 4, 0.045, 0, -180)
    high = at(0.38, 0.44)
    pen.poly([*arc(0.5, base, r, high, 180, 360), *scallops], volume="ball")
    for k in (-1, 1):
        pen.stroke(
            [
                (0.5, base - high),
                (0.5 + k * r * 0.3, base - high * 0.6),
                (0.5 + k * r * 0.5, base - 0.02),
            ],
            0.01,
            tone=0.62,
        )
    pen.box(0.49, base - high - 0.05, 0.51, base - high + 0.01, paint=DARK)
