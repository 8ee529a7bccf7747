"""Text in any script: an installed font that has the characters, else their code points."""

from __future__ import annotations

from functools import cache

from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator

DEFAULT_FAMILY = "DejaVu Sans"  # matplotlib's own: its characters look the same on every machine
_PLACEHOLDERS = "Last Resort"  # a font that draws a box for every character
_MAX_CODES = 4  # code points shown of a word; the rest is an ellipsis


@cache
def font_characters(path: str) -> frozenset[int]:
    """Return the code points that a font file draws; none for bitmap fonts and broken files."""
    try:
        font = FT2Font(path)
        return frozenset(font.get_charmap()) if font.scalable else frozenset()
    except (OSError, RuntimeError):
        return frozenset()


@cache
def installed_fonts() -> tuple[tuple[str, str], ...]:
    """Return (family, file) of every upright font, matplotlib's own first, then by name."""
    fonts = {
        (font.name, font.fname)
        for font in fontManager.ttflist
        if font.style == "normal" and _PLACEHOLDERS not in font.name
    }
    return tuple(sorted(fonts, key=lambda font: (font[0] != DEFAULT_FAMILY, font)))


@cache
def family_with(character: str) -> str | None:
    """Return a font family that has the character, None if no installed one has."""
    code = ord(character)
    return next((name for name, path in installed_fonts() if code in font_characters(path)), None)


def font_families(text: str) -> list[str]:
    """Return the font families that a text needs, matplotlib's own first."""
    needed = {character for character in text if not character.isascii()}
    families = (family_with(character) for character in sorted(needed))
    return list(dict.fromkeys([DEFAULT_FAMILY, *(name for name in families if name)]))


def escape_undrawable(text: str) -> str:
    """Replace characters that no font has, and control characters: "U+65E5 U+672C"."""
    characters: list[str] = []
    codes: list[str] = []
    for character in [*text, ""]:  # the end closes the last word
        if character and character != "\n" and not _can_draw(character):
            codes.append(f"U+{ord(character):04X}")
            continue
        if codes:
            characters.append(
                " ".join(codes[:_MAX_CODES]) + ("…" if len(codes) > _MAX_CODES else "")
            )
            codes = []
        characters.append(character)
    return "".join(characters)


def _can_draw(character: str) -> bool:
    if character.isascii():
        return character.isprintable()
    return family_with(character) is not None


def in_default_font(text: str) -> bool:
    """Return whether matplotlib's own font draws the text as it is."""
    if text.isascii() and text.isprintable():
        return True
    return escape_undrawable(text) == text and font_families(text) == [DEFAULT_FAMILY]


def use_fonts_with_all_characters(figure: Figure) -> None:
    """Give each text of a figure the fonts that its characters need.

    What matplotlib's own font draws is left as it is: such a figure is equal on every machine.
    """
    artists = figure.findobj(lambda artist: isinstance(artist, (Axis, Text)))
    changed = [_escape_tick_labels(artist) for artist in artists if isinstance(artist, Axis)]
    if any(changed):  # their labels are new ones
        artists = figure.findobj(Text)
    for text in artists:
        if isinstance(text, Text) and not in_default_font(text.get_text()):
            text.set_text(escape_undrawable(text.get_text()))
            if (families := font_families(text.get_text())) != [DEFAULT_FAMILY]:
                text.set_fontfamily(families)


def _escape_tick_labels(axis: Axis) -> bool:
    """Escape the fixed tick labels of an axis, which drawing it renews; return if there are any."""
    if not isinstance(axis.get_major_locator(), FixedLocator):
        return False
    labels = [label.get_text() for label in axis.get_ticklabels()]
    if all(map(in_default_font, labels)):
        return False
    axis.set_ticks(axis.get_ticklocs(), [escape_undrawable(label) for label in labels])
    return True
