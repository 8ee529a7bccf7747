"""Labels in any script: no boxes, no warnings, and English figures as they were."""

import warnings

import numpy as np
import pandas as pd
import pytest

from abo_vqa.reporting import glyphs
from abo_vqa.reporting.style import Drawing, canvas, headline, heatmap_axes, png, styled, svg

NAMES = ["red", "赤い", "नीला", "أحمر", "красный", "🔴", "$5 to $", r"$\frac$", "a\u200db", "\x07"]


def drawing(names):
    figure, axes = canvas(3.0)
    axes[0][0].pcolormesh(np.eye(len(names)))
    heatmap_axes(axes[0][0], list(names), list(names))
    axes[0][0].set_title(names[-1])
    return Drawing("names", f"Names: {names[0]}", names[-1], "", pd.DataFrame(), figure)


def test_any_script_is_drawn_without_a_warning():
    with styled(), warnings.catch_warnings():
        warnings.simplefilter("error")
        made = drawing(NAMES)
        headline(made)
        assert png(made.figure)[:4] == b"\x89PNG"
        page = svg(made.figure, "names")
    assert "красный" in page
    assert "$5 to $" in page


def test_what_no_font_has_is_spelt_in_code_points(monkeypatch):
    only = tuple(font for font in glyphs.installed() if font[0] == glyphs.FIRST)
    monkeypatch.setattr(glyphs, "installed", lambda: only)
    glyphs.family_with.cache_clear()
    try:
        assert glyphs.spelt("赤い red") == "U+8D64 U+3044 red"
        assert glyphs.spelt("赤" * 9) == "U+8D64 U+8D64 U+8D64 U+8D64…"
        assert glyphs.spelt("rouge é красный") == "rouge é красный"
        assert glyphs.families(["red – красный"]) == [glyphs.FIRST]
        assert not glyphs.plain("赤")
    finally:
        glyphs.family_with.cache_clear()


def test_a_font_that_has_the_letters_is_taken(monkeypatch):
    monkeypatch.setattr(glyphs, "installed", lambda: ((glyphs.FIRST, "a"), ("Other", "b")))
    monkeypatch.setattr(glyphs, "characters", lambda path: {"a": {0xE9}, "b": {0x8D64}}[path])
    glyphs.family_with.cache_clear()
    try:
        assert glyphs.families(["é赤"]) == [glyphs.FIRST, "Other"]
        assert glyphs.spelt("é赤い") == "é赤U+3044"
    finally:
        glyphs.family_with.cache_clear()


@pytest.mark.parametrize("name", ["Last Resort", "DejaVu Sans"])
def test_a_font_of_placeholders_has_nothing_to_say(name):
    assert any(name in family for family, _ in glyphs.installed()) == (name == glyphs.FIRST)
