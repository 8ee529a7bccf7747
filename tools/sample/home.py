"""Drawings of smaller things around the home."""

from __future__ import annotations

import math

from sample.pen import DARK, GOLD, PALE, STEEL, Pen, smooth
from sample.studio import Chance


def rug(pen: Pen, at: Chance, form: str) -> None:
    """A rug from above with a border, and fringes unless it is round or oval."""
    if form in ("round", "oval"):
        rx = at(0.42, 0.46)
        ry = rx if form == "round" else rx * at(0.58, 0.68)
        pen.oval(0.5, 0.5, rx, ry, tone=0.72)
        pen.oval(0.5, 0.5, rx * 0.9, ry * 0.88)
        return
    half = at(0.28, 0.32)
    for k in range(15):
        y = 0.5 - half + 0.02 + k * (2 * half - 0.04) / 14
        pen.stroke([(0.02, y), (0.98, y)], 0.014, paint=(222, 212, 190))
    pen.box(0.06, 0.5 - half, 0.94, 0.5 + half, tone=0.7)
    pen.box(0.11, 0.55 - half, 0.89, 0.45 + half)


def clock(pen: Pen, at: Chance, form: str) -> None:
    """A wall clock."""
    r, face = at(0.41, 0.45), at(0.74, 0.8)
    if form == "square":
        pen.box(0.5 - r, 0.5 - r, 0.5 + r, 0.5 + r, r=0.05)
    else:
        pen.oval(0.5, 0.5, r)
    pen.oval(0.5, 0.5, r * face, paint=(253, 252, 248))
    for k in range(12):
        a = math.tau * k / 12
        near, far = r * face * (0.74 if k % 3 == 0 else 0.82), r * face * 0.92
        pen.stroke(
            [
                (0.5 + near * math.cos(a), 0.5 + near * math.sin(a)),
                (0.5 + far * math.cos(a), 0.5 + far * math.sin(a)),
            ],
            0.028 if k % 3 == 0 else 0.016,
            paint=DARK,
        )
    for reach, width, a in ((0.48, 0.035, at.among(12)), (0.68, 0.024, at.among(12))):
        angle = math.tau * a / 12
        pen.stroke(
            [
                (0.5, 0.5),
                (
                    0.5 + r * face * reach * math.cos(angle),
                    0.5 + r * face * reach * math.sin(angle),
                ),
            ],
            width,
            paint=DARK,
        )
    pen.oval(0.5, 0.5, 0.03, paint=DARK)


def pillow(pen: Pen, at: Chance, form: str) -> None:
    """A plump cushion with pointed corners, or a round one with a button."""
    if form == "round":
        r = at(0.4, 0.44)
        pen.oval(0.5, 0.52, r, r * 0.96, volume="ball")
        for k in range(8):
            a = math.tau * k / 8
            pen.stroke(
                [
                    (0.5 + 0.1 * math.cos(a), 0.52 + 0.1 * math.sin(a)),
                    (0.5 + 0.8 * r * math.cos(a), 0.52 + 0.8 * r * math.sin(a)),
                ],
                0.012,
                tone=0.7,
            )
        pen.oval(0.5, 0.52, 0.045, tone=0.7)
        return
    wide = at(0.4, 0.44)
    tall = wide if form == "square" else wide * at(0.62, 0.7)
    dent = at(0.05, 0.07)
    corners = [
        (0.5 + sx * wide, 0.5 + sy * tall) for sx, sy in ((-1, -1), (1, -1), (1, 1), (-1, 1))
    ]
    points = []
    for i, (x0, y0) in enumerate(corners):
        x1, y1 = corners[(i + 1) % 4]
        for k in range(10):
            t = k / 10
            sag = dent * math.sin(math.pi * t)
            x, y = x0 + (x1 - x0) * t, y0 + (y1 - y0) * t
            points.append((x + (0.5 - x) * sag / wide * 0.9, y + (0.5 - y) * sag / tall * 0.9))
    pen.poly(points, volume="ball")


def phone_case(pen: Pen, at: Chance, form: str) -> None:
    """The back of a phone case with its camera window."""
    half, r = at(0.21, 0.25), at(0.06, 0.08)
    pen.box(0.5 + half - 0.01, 0.3, 0.5 + half + 0.018, 0.42, paint=DARK)
    pen.box(0.5 - half, 0.04, 0.5 + half, 0.96, r=r, tone=0.78)
    pen.box(0.5 - half + 0.02, 0.06, 0.5 + half - 0.02, 0.94, r=r * 0.8)
    wide, lenses = at(0.13, 0.16), 1 + at.among(3)
    x, y = 0.5 - half + 0.045, 0.09
    pen.box(x, y, x + wide, y + 0.09 + 0.04 * lenses, r=0.04, paint=(44, 44, 50))
    for k in range(lenses):
        cy = y + 0.065 + 0.052 * k
        pen.oval(x + wide / 2, cy, 0.034, paint=(120, 126, 140))
        pen.oval(x + wide / 2, cy, 0.018, paint=(24, 26, 40))


def book(pen: Pen, at: Chance, form: str) -> None:
    """A closed hardback, its pages showing at the right and below."""
    left, right, top, bottom = at(0.18, 0.22), at(0.72, 0.76), at(0.07, 0.11), at(0.84, 0.88)
    off = at(0.05, 0.07)
    pen.poly(
        [
            (left + off, bottom + off),
            (right + off, bottom + off),
            (right + off, top + off),
            (right, top),
            (left, bottom),
        ],
        tone=0.6,
    )
    pages = (250, 244, 226)
    pen.poly(
        [
            (right, top + 0.02),
            (right + off * 0.8, top + off),
            (right + off * 0.8, bottom + off * 0.7),
            (right, bottom),
        ],
        paint=pages,
    )
    pen.poly(
        [
            (left + 0.02, bottom),
            (right, bottom),
            (right + off * 0.8, bottom + off * 0.7),
            (left + off, bottom + off * 0.7),
        ],
        paint=pages,
    )
    pen.box(left, top, right, bottom, r=0.012)
    pen.box(left, top, left + 0.07, bottom, tone=0.72)
    pen.box(left + 0.16, top + 0.13, right - 0.09, top + 0.28, r=0.01, paint=PALE)
    for k in range(2):
        pen.box(
            left + 0.2,
            top + 0.165 + 0.045 * k,
            right - 0.13,
            top + 0.185 + 0.045 * k,
            paint=(120, 116, 110),
        )


def keychain(pen: Pen, at: Chance, form: str) -> None:
    """A split ring, two links and a fob."""
    r = at(0.15, 0.18)
    pen.ring(0.5, 0.05 + r, r, r, 0.035, paint=STEEL)
    for k in range(2):
        pen.ring(0.5, 0.08 + 2 * r + 0.07 * k, 0.03, 0.05, 0.016, paint=STEEL)
    top, half = 0.2 + 2 * r, at(0.19, 0.23)
    if at.among(2):
        pen.box(0.5 - half, top, 0.5 + half, 0.95, r=0.08)
    else:
        ry = (0.95 - top) / 2
        pen.oval(0.5, top + ry, half + 0.03, ry)
    pen.oval(0.5, top + 0.045, 0.022, paint=PALE)


def mirror(pen: Pen, at: Chance, form: str) -> None:
    """A framed mirror with the light falling across it."""
    rx = at(0.3, 0.34)
    ry = rx if form == "round" else at(0.4, 0.44)
    glass = (206, 226, 236)
    if form in ("round", "oval"):
        pen.oval(0.5, 0.5, rx, ry)
        pen.oval(0.5, 0.5, rx * 0.82, ry * 0.84, paint=glass)
    else:
        pen.box(0.5 - rx, 0.5 - ry, 0.5 + rx, 0.5 + ry, r=0.02)
        pen.box(0.56 - rx, 0.56 - ry, 0.44 + rx, 0.44 + ry, paint=glass)
    for k in range(2):
        x = 0.4 + 0.12 * k
        pen.poly(
            [(x, 0.62), (x + 0.05 - 0.02 * k, 0.62), (x + 0.2 - 0.02 * k, 0.36), (x + 0.15, 0.36)],
            paint=(240, 248, 252),
        )


def guitar(pen: Pen, at: Chance, form: str) -> None:
    """An acoustic guitar, upright."""
    low, waist, high = at(0.22, 0.26), at(0.12, 0.15), at(0.16, 0.19)
    pen.box(0.465, 0.08, 0.535, 0.5, paint=(110, 76, 50))
    pen.box(0.445, 0.02, 0.555, 0.13, r=0.02, paint=DARK)
    side = [
        (0.5 + high * 0.6, 0.4),
        (0.5 + high, 0.48),
        (0.5 + waist, 0.6),
        (0.5 + low, 0.76),
        (0.5 + low * 0.7, 0.92),
    ]
    pen.poly(smooth([*side, *((1 - x, y) for x, y in reversed(side))]))
    pen.oval(0.5, 0.58, 0.07, paint=DARK)
    pen.box(0.42, 0.78, 0.58, 0.81, paint=GOLD)
