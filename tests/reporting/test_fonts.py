"""Labels in any script: no boxes, no warnings, and English figures as they were."""

import warnings

import numpy as np
import pytest

from abo_vqa.reporting import fonts
from abo_vqa.reporting.style import add_title, heatmap_axes, new_figure, png, report_style, svg

NAMES = ["red", "赤い", "नीला", "أحمر", "красный", "🔴", "$5 to $", r"$\frac$", "a\u200db", "\x07"]


def drawing(names):
    figure, axes = new_figure(3.0)
    axes[0][0].pcolormesh(np.eye(len(names)))
    heatmap_axes(axes[0][0], list(names), list(names))
    axes[0][0].set_title(names[-1])
    add_title(figure, f"Names: {names[0]}", names[-1])
    return figure


def test_any_script_is_drawn_without_a_warning():
    with report_style(), warnings.catch_warnings():
        warnings.simplefilter("error")
        made = drawing(NAMES)
        assert png(made)[:4] == b"\x89PNG"
        page = svg(made, "names")
    assert "красный" in page
    assert "$5 to $" in page


def test_what_no_font_has_is_spelt_in_code_points(monkeypatch):
    only = tuple(font for font in fonts.installed_fonts() if font[0] == fonts.DEFAULT_FAMILY)
    monkeypatch.setattr(fonts, "installed_fonts", lambda: only)
    fonts.family_with.cache_clear()
    try:
        assert fonts.escape_undrawable("赤い red") == "U+8D64 U+3044 red"
        assert fonts.escape_undrawable("赤" * 9) == "U+8D64 U+8D64 U+8D64 U+8D64…"
        assert fonts.escape_undrawable("rouge é красный") == "rouge é красный"
        assert fonts.font_families("red – красный") == [fonts.DEFAULT_FAMILY]
        assert not fonts.in_default_font("赤")
    finally:
        fonts.family_with.cache_clear()


def test_a_font_that_has_the_letters_is_taken(monkeypatch):
    monkeypatch.setattr(
        fonts, "installed_fonts", lambda: ((fonts.DEFAULT_FAMILY, "a"), ("Other", "b"))
    )
    monkeypatch.setattr(fonts, "font_characters", lambda path: {"a": {0xE9}, "b": {0x8D64}}[path])
    fonts.family_with.cache_clear()
    try:
        assert fonts.font_families("é赤") == [fonts.DEFAULT_FAMILY, "Other"]
        assert fonts.escape_undrawable("é赤い") == "é赤U+3044"
    finally:
        fonts.family_with.cache_clear()


@pytest.mark.parametrize("name", ["Last Resort", "DejaVu Sans"])
def test_a_font_of_placeholders_has_nothing_to_say(name):
    assert any(name in family for family, _ in fonts.installed_fonts()) == (
        name == fonts.DEFAULT_FAMILY
    )
