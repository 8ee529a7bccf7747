"""Drawings of furniture; every function draws on a unit tile and stands on y = 0.95."""

from __future__ import annotations

from sample.pen import DARK, PALE, Pen, arc, smooth
from sample.studio import Chance

FLOOR = 0.95


def chair(pen: Pen, at: Chance, form: str) -> None:
    """A side chair in three-quarter view."""
    left, right, seat = at(0.22, 0.27), at(0.7, 0.76), at(0.52, 0.58)
    top, depth = at(0.04, 0.1), at(0.1, 0.13)
    leg = at(0.05, 0.065)
    pen.box(left + 0.02, seat, left + 0.02 + leg * 0.8, FLOOR - 0.1, tone=0.7)
    pen.box(right - leg, seat, right - leg * 0.2, FLOOR - 0.1, tone=0.7)
    if at.among(2):  # a full back
        back = [(left, top + 0.04), (left + 0.06, top), (right - 0.06, top), (right, top + 0.04)]
        pen.poly([*back, (right - 0.01, seat), (left + 0.01, seat)], volume="column")
    else:  # a ladder back
        for x in (left, right - leg):
            pen.box(x, top, x + leg, seat + 0.02)
        for k in range(3):
            y = top + 0.04 + k * (seat - top) / 3.4
            pen.box(left + leg / 2, y, right - leg / 2, y + 0.075, r=0.02)
    front = 0.06
    pen.poly(
        [(left, seat), (right, seat), (right + front, seat + depth), (left - front, seat + depth)]
    )
    pen.box(left - front, seat + depth, right + front, seat + depth + 0.05, tone=0.8)
    for x in (left - front, right + front - leg):
        pen.box(x, seat + depth + 0.05, x + leg, FLOOR)


def stool(pen: Pen, at: Chance, form: str) -> None:
    """A backless stool with splayed legs."""
    y, rx = at(0.2, 0.3), at(0.26, 0.32)
    ry = rx * at(0.26, 0.34)
    spread, leg = at(0.04, 0.1), at(0.045, 0.06)
    for side in (-1, 1):
        inner = 0.5 + side * rx * 0.45
        pen.stroke([(inner, y), (inner + side * spread * 0.4, FLOOR - 0.08)], leg, tone=0.68)
    rung = at(0.62, 0.7)
    pen.box(0.5 - rx * 0.8, rung, 0.5 + rx * 0.8, rung + 0.035, tone=0.85)
    for side in (-1, 1):
        outer = 0.5 + side * rx * 0.8
        pen.stroke([(outer, y), (outer + side * spread, FLOOR)], leg)
    pen.poly(
        [(0.5 - rx, y), *arc(0.5, y + 0.06, rx, ry, 180, 0), (0.5 + rx, y)],
        tone=0.78,
        volume="column",
    )
    pen.oval(0.5, y, rx, ry)


def table(pen: Pen, at: Chance, form: str) -> None:
    """A table seen from slightly above: round on one foot, or rectangular on four legs."""
    y, reach = at(0.34, 0.42), at(0.42, 0.46)
    if form == "round":
        ry, foot = at(0.11, 0.15), at(0.2, 0.26)
        pen.poly(arc(0.5, FLOOR - 0.05, foot, 0.05), tone=0.8)
        pen.box(0.46, y, 0.54, FLOOR - 0.05, volume="column", tone=0.9)
        pen.oval(0.5, y + 0.04, reach, ry, tone=0.72)
        pen.oval(0.5, y, reach, ry)
        return
    leg, inset, depth = at(0.05, 0.07), at(0.07, 0.12), at(0.12, 0.18)
    for x in (0.5 - reach + inset + 0.02, 0.5 + reach - inset - leg - 0.02):
        pen.box(x, y, x + leg * 0.8, FLOOR - 0.12, tone=0.66)
    pen.poly(
        [
            (0.5 - reach + inset, y - depth),
            (0.5 + reach - inset, y - depth),
            (0.5 + reach, y),
            (0.5 - reach, y),
        ]
    )
    pen.box(0.5 - reach, y, 0.5 + reach, y + 0.06, tone=0.78)
    for x in (0.5 - reach + 0.015, 0.5 + reach - leg - 0.015):
        pen.box(x, y + 0.06, x + leg, FLOOR)


def sofa(pen: Pen, at: Chance, form: str) -> None:
    """A two- or three-seater from the front."""
    top, seat, arm = at(0.26, 0.33), at(0.55, 0.6), at(0.1, 0.13)
    for x in (0.1, 0.84):
        pen.box(x, 0.84, x + 0.06, 0.92, paint=DARK)
    pen.box(0.08, top, 0.92, 0.8, r=0.07)
    seats = 2 + at.among(2)
    width = (0.9 - 2 * arm) / seats
    for k in range(seats):
        x = 0.05 + arm + k * width
        pen.box(x, top + 0.06, x + width, seat + 0.03, r=0.04, tone=0.94)
    pen.box(0.06, 0.7, 0.94, 0.86, r=0.03, tone=0.8)
    for k in range(seats):
        x = 0.05 + arm + k * width
        pen.box(x, seat, x + width, 0.73, r=0.035)
    for x in (0.03, 0.97 - arm):
        pen.box(x, at(0.44, 0.48), x + arm, 0.87, r=0.05, volume="column")


def bed(pen: Pen, at: Chance, form: str) -> None:
    """A bed with its headboard at the left, seen from the side and above."""
    head, foot = at(0.3, 0.36), at(0.5, 0.56)
    slant = at(0.1, 0.15)
    for x in (0.06, 0.88):
        pen.box(x, 0.8, x + 0.05, 0.92, tone=0.7)
    pen.poly(
        [(0.05, head), (0.05 + slant, head - 0.12), (0.05 + slant, 0.6), (0.05, 0.84)], tone=0.85
    )
    pen.poly(
        [
            (0.09, 0.6),
            (0.1 + slant, 0.46),
            (0.86 + slant / 2, 0.46),
            (0.88, 0.6),
            (0.88, 0.72),
            (0.09, 0.72),
        ],
        paint=PALE,
    )
    for k in range(2):
        x, y = 0.13 + slant * (0.75 - 0.55 * k), 0.42 + 0.075 * k
        pen.box(x, y, x + 0.13, y + 0.1, r=0.045, paint=PALE)
    pen.poly([(0.36, 0.6), (0.36 + slant, 0.455), (0.87 + slant / 2, 0.455), (0.9, 0.6)])
    pen.poly([(0.36, 0.6), (0.9, 0.6), (0.9, 0.74), (0.36, 0.74)], tone=0.86)
    pen.box(0.07, 0.7, 0.93, 0.83, tone=0.95)
    pen.poly([(0.88, foot), (0.95, foot), (0.95, 0.86), (0.88, 0.86)], volume="column")


def shelf(pen: Pen, at: Chance, form: str) -> None:
    """An open bookcase with something on its boards."""
    left, right, top = at(0.2, 0.26), at(0.74, 0.8), at(0.05, 0.1)
    boards, thick = 3 + at.among(2), at(0.035, 0.05)
    pen.box(left, top, right, FLOOR, tone=0.72)
    gap = (FLOOR - top - thick) / boards
    inks = ((196, 92, 80), (92, 128, 170), (226, 196, 120), (110, 150, 110), (150, 120, 160))
    for k in range(boards):
        base = top + (k + 1) * gap
        x = left + thick + 0.03 + 0.1 * at.among(3)
        for j in range(2 + at.among(3)):
            height = gap * (0.5 + 0.06 * at.among(4))
            pen.box(x, base - height, x + 0.045, base, paint=inks[(j + k + at.among(3)) % 5])
            x += 0.05
    for k in range(boards + 1):
        y = top + k * gap
        pen.box(left, y, right, y + thick)
    for x in (left, right - thick):
        pen.box(x, top, x + thick, FLOOR)


def lamp(pen: Pen, at: Chance, form: str) -> None:
    """A table lamp, or a floor lamp on a long pole."""
    tall = at.among(2) == 1
    shade_top, shade_bottom = (0.05, at(0.28, 0.32)) if tall else (0.08, at(0.44, 0.5))
    narrow, wide = at(0.1, 0.15), at(0.24, 0.28) if tall else at(0.29, 0.35)
    foot = at(0.13, 0.17)
    pen.oval(0.5, FLOOR - 0.03, foot + 0.02, 0.035, tone=0.85)
    if tall:
        pen.box(0.482, shade_bottom, 0.518, FLOOR - 0.03, volume="column", tone=0.9)
    else:
        waist = at(0.055, 0.08)
        body = [
            (0.5 + 0.02, shade_bottom),
            (0.5 + waist * 0.5, 0.55),
            (0.5 + foot, 0.74),
            (0.5 + foot * 0.7, FLOOR - 0.03),
        ]
        left = [(1 - x, y) for x, y in reversed(body)]
        pen.poly(smooth([*body, *left]), volume="column")
    pen.poly(
        [
            (0.5 - narrow, shade_top),
            (0.5 + narrow, shade_top),
            (0.5 + wide, shade_bottom),
            (0.5 - wide, shade_bottom),
        ],
        volume="column",
    )
    pen.oval(0.5, shade_bottom, wide, 0.03, paint=(255, 236, 170))


def suitcase(pen: Pen, at: Chance, form: str) -> None:
    """An upright trolley case."""
    left, right, top = at(0.2, 0.25), at(0.75, 0.8), at(0.26, 0.31)
    grip = at(0.09, 0.12)
    for x in (0.5 - grip, 0.5 + grip - 0.02):
        pen.box(x, 0.05, x + 0.025, top, paint=(150, 152, 158), volume="column")
    pen.box(0.5 - grip - 0.01, 0.03, 0.5 + grip + 0.015, 0.075, r=0.02, paint=DARK)
    for x in (left + 0.06, right - 0.12):
        pen.oval(x + 0.03, FLOOR - 0.03, 0.035, paint=DARK)
    pen.box(left, top, right, FLOOR - 0.05, r=at(0.05, 0.07), volume="column")
    for k in range(3):
        x = left + (right - left) * (0.26 + 0.24 * k)
        pen.box(x - 0.008, top + 0.05, x + 0.008, FLOOR - 0.1, tone=0.66)
    pen.box(0.42, top - 0.025, 0.58, top + 0.015, r=0.01, paint=DARK)
