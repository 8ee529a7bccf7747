"""How much can be right at most is beside every accuracy; intervals are named by their level."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from abo_vqa.core.config import load_config
from abo_vqa.core.units import format_level
from abo_vqa.reporting.cards import render_cards
from abo_vqa.reporting.ceiling import ceiling_caption, ceiling_sentence, review_extent
from abo_vqa.reporting.figures.register import draw_figures
from abo_vqa.reporting.inputs import Results, load_results
from abo_vqa.reporting.pages import render_html, render_markdown, report_context
from tests.support.reports import make

CEILING = {
    "accuracy": 0.912, "low": 0.88, "high": 0.94, "pairs": 120, "images": 40, "raters": 2,
    "wrong": {"share": 0.1, "low": 0.06, "high": 0.14}, "left_out": 30, "reviewed_test_rows": 12,
    "confidence": 0.975,
}  # fmt: skip
CAPTION = "At most about 91% of all test rows can be right."
ACCURACIES = {"study", "clip-regimes", "models", "question-types"}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = make(tmp_path_factory.mktemp("results"), 200, 1, pictures=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return load_results(load_config())


@pytest.fixture
def results(plain: Results) -> Results:
    evaluate = plain.config.evaluate.model_copy(update={"confidence": 0.975})
    config = plain.config.model_copy(update={"evaluate": evaluate})
    return replace(plain, config=config, evaluation={**plain.evaluation, "ceiling": CEILING})


def test_figures_of_accuracies_have_the_line(results: Results, plain: Results) -> None:
    notes = {figure.name: drawing.note for figure, drawing in draw_figures(results)}
    marked = {name for name, note in notes.items() if "dotted: at most about 91%" in note}
    assert marked == ACCURACIES
    assert not [note for note in notes.values() if "95%" in note or "98%" in note]
    assert sum("97.5% interval" in note for note in notes.values()) >= 8
    without = {figure.name: drawing.note for figure, drawing in draw_figures(plain)}
    assert not [note for note in without.values() if "at most" in note]
    assert sum("95% interval" in note for note in without.values()) >= 8


def test_tables_of_accuracies_have_the_caption(results: Results, plain: Results) -> None:
    context = report_context(results, [], {}, [])
    html, markdown = render_html(context), render_markdown(context)
    cards = render_cards(results, context)
    tables = len(context["slices"]) + sum(bool(context[t]) for t in ("yes_no", "counting"))
    assert html.count(CAPTION) == tables + 2  # the study's, and that of all metrics
    assert markdown.count(CAPTION) == 1
    assert cards["model.md"].count(CAPTION) == 2
    for page in (html, markdown, *cards.values()):
        assert "At most about 91.2% can be right (97.5% interval 88.0 to 94.0)" in page
        assert "of 120 pairs that 2 people reviewed and the filters keep, 10.0%" in page
        assert not re.search(r"\b9[58]% (bootstrap )?interval", page)
    assert html.count("97.5% interval") > 6
    nothing = report_context(plain, [], {}, [])
    assert "of all test rows can be right" not in render_html(nothing) + render_markdown(nothing)


def test_a_gate_that_keeps_no_reviewed_pair_is_the_reason() -> None:
    text = ceiling_sentence(None, {"pairs": 0, "left_out": 1200})
    assert "the filters keep none of the 1,200 pairs that people reviewed" in text
    assert ceiling_caption(None) == ""


def test_a_review_is_of_a_sample_or_of_suspicious_pairs() -> None:
    assert review_extent({}) == ""
    assert review_extent({"reviews": {"pairs": 9}}) == "a sample"
    assert review_extent({"reviews": {"pairs": 9, "random": {"pairs": 1}}}) == "a sample"
    only = {"reviews": {"pairs": 9, "random": {"pairs": 0}}}
    assert review_extent(only) == "suspicious pairs"


def test_levels_are_not_rounded() -> None:
    assert [format_level(level) for level in (0.95, 0.9, 0.975, 0.999)] == [
        "95%", "90%", "97.5%", "99.9%",
    ]  # fmt: skip
