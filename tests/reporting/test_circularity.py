"""A model that helped to choose the test rows is marked wherever its accuracy is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from abo_vqa.core.config import load_config
from abo_vqa.core.json_files import read_json, write_json
from abo_vqa.evaluation.results import Evaluation
from abo_vqa.reporting import formatting
from abo_vqa.reporting.cards import render_cards
from abo_vqa.reporting.inputs import ExternalTable, external_results, load_results
from abo_vqa.reporting.pages import render_html, render_markdown, report_context
from tests.support.reports import make

VERIFICATION = Path("data/verification.json")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("results"), 200, 1, pictures=False)


@pytest.fixture(autouse=True)
def inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(folder)
    before = VERIFICATION.read_bytes()
    yield
    VERIFICATION.write_bytes(before)
    formatting.mark_models(())


def pages(**filtered_by: float) -> dict[str, str]:
    """The report and the cards after these filters."""
    record = read_json(VERIFICATION) | ({"filtered_by": filtered_by} if filtered_by else {})
    write_json(record, VERIFICATION)
    results = load_results(load_config())
    context = report_context(results, [], {}, [])
    report = {"html": render_html(context), "markdown": render_markdown(context)}
    return report | render_cards(results, context)


def test_without_a_filter_nothing_is_marked() -> None:
    assert not any("‡" in page for page in pages().values())


def test_models_that_filter_are_marked_and_say_what_they_agree_with() -> None:
    made = pages(min_agreement=0.5)
    before = "BLIP gives the generated answer to 40.0%."
    assert all("helped to choose these rows" in page for page in made.values())
    assert all(before in page for page in made.values())
    assert "| BLIP‡ |" in made["markdown"]
    assert "| **BLIP + LoRA‡** |" in made["markdown"]
    assert "</span>BLIP‡</td>" in made["html"]
    assert "BLIP-2‡" not in "".join(made.values())
    assert "Blind (n-grams)‡" not in "".join(made.values())


def test_a_cap_on_what_is_answered_blindly_marks_the_blind_baselines() -> None:
    made = pages(blind_share=0.2)
    assert all("every gain over blind too high" in page for page in made.values())
    assert all(
        "the blind predictor gives the generated answer to 30.0%." in page for page in made.values()
    )
    assert "| Blind (n-grams)‡ |" in made["markdown"]
    assert "BLIP‡" not in "".join(made.values())


def test_the_models_are_no_part_of_another_test_set() -> None:
    pages(min_agreement=0.5)
    assert formatting.model_label("blip") == "BLIP‡"
    results = load_results(load_config())
    evaluation = Evaluation(
        scored=dict(results.scores),
        best_blind="blind-ngram",
        metrics={model: dict(values) for model, values in results.metrics.items()},
        details=dict(results.evaluation),
    )
    table = ExternalTable("mine.csv", [], [], {})
    other = external_results(results.config, evaluation, results.test, table, {})
    assert other.circular == {}
    assert formatting.model_label("blip") == "BLIP"
