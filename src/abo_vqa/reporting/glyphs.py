"""Labels in any script: an installed font that has the letters, else their code points."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIRST = "DejaVu Sans"  # matplotlib's own: its characters look the same on every machine
_PLACEHOLDERS = "Last Resort"  # a font that has a box for everything
_SPELT = 4  # characters of a word given as code points; the rest is an ellipsis


@cache
def characters(path: str) -> frozenset[int]:
    """The code points that a font file draws; none for bitmaps and broken files."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(path)
        return frozenset(font.get_charmap()) if font.scalable else frozenset()
    except (OSError, RuntimeError):
        return frozenset()


@cache
def installed() -> tuple[tuple[str, str], ...]:
    """(family, file) of every upright font, matplotlib's own first, then by name."""
    from matplotlib.font_manager import fontManager

    found = {
        (font.name, font.fname)
        for font in fontManager.ttflist
        if font.style == "normal" and _PLACEHOLDERS not in font.name
    }
    return tuple(sorted(found, key=lambda font: (font[0] != FIRST, font)))


@cache
def family_with(character: str) -> str | None:
    """A font family that has the character, None if no installed one has."""
    code = ord(character)
    return next((name for name, path in installed() if code in characters(path)), None)


def families(texts: Iterable[str]) -> list[str]:
    """The font families that the texts need, matplotlib's own first."""
    needed = {character for text in texts for character in text if not character.isascii()}
    found = (family_with(character) for character in sorted(needed))
    return list(dict.fromkeys([FIRST, *(name for name in found if name)]))


def spelt(text: str) -> str:
    """The text with what no font has as code points: "U+65E5 U+672C"; control characters too."""
    shown: list[str] = []
    codes: list[str] = []
    for character in [*text, ""]:  # the end closes the last word
        if character and character != "\n" and not drawn(character):
            codes.append(f"U+{ord(character):04X}")
            continue
        if codes:
            shown.append(" ".join(codes[:_SPELT]) + ("…" if len(codes) > _SPELT else ""))
            codes = []
        shown.append(character)
    return "".join(shown)


def drawn(character: str) -> bool:
    """Whether some font draws the character."""
    if character.isascii():
        return character.isprintable()
    return family_with(character) is not None


def plain(text: str) -> bool:
    """Whether matplotlib's own font draws the text as it is."""
    return spelt(text) == text and families([text]) == [FIRST]


def legible(figure: Figure) -> None:
    """Give all texts of a figure the fonts that their letters need.

    What matplotlib's own font draws is left as it is: such a figure is equal on every machine.
    """
    from matplotlib.axis import Axis
    from matplotlib.text import Text
    from matplotlib.ticker import FixedLocator

    for axis in figure.findobj(Axis):
        if isinstance(axis.get_major_locator(), FixedLocator):
            labels = [label.get_text() for label in axis.get_ticklabels()]
            if not all(map(plain, labels)):  # an axis writes its labels anew when it is drawn
                axis.set_ticks(axis.get_ticklocs(), [spelt(label) for label in labels])
    for text in figure.findobj(Text):
        if not plain(text.get_text()):
            text.set_text(spelt(text.get_text()))
        if (chosen := families([text.get_text()])) != [FIRST]:
            text.set_fontfamily(chosen)
