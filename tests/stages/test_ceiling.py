"""Planted reviews on their way through the stages: generate, split, evaluate, report."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from abo_vqa.core.config import Config
from abo_vqa.core.paths import predictions_of
from abo_vqa.evaluation import scoring
from abo_vqa.evaluation.predictions import answering_models
from abo_vqa.reporting.cards import render_cards
from abo_vqa.reporting.inputs import Results, load_results
from abo_vqa.reporting.pages import render_html, render_markdown, report_context
from abo_vqa.stages import evaluate, generate, split, verify
from tests.support.annotation import configure, here, make

__all__ = ["here"]

IMAGES = 40
QUESTIONS = {"What color is it?": "red", "What is it made of?": "wood", "Is it round?": "yes"}


def plant_reviews(pairs: list[tuple[str, str, str]]) -> None:
    """The first 20 images: Anna rejects 6 pairs and corrects 6; Bo, who has half of them, too."""
    for rater, count in (("Anna", 60), ("Bo", 30)):
        with Path(f"conf/reviews/{rater}.csv").open("w", newline="") as out:
            writer = csv.writer(out)
            header = ("image_path", "question", "answer", "decision", "corrected", "rater")
            writer.writerow(header)
            for number, pair in enumerate(pairs[:count]):
                decision, corrected = ("reject", "") if number % 10 == 0 else ("keep", "")
                if number % 10 == 1:
                    decision, corrected = "correct", "blue"
                writer.writerow([*pair, decision, corrected, rater])


def plant_suspicious_reviews(pairs: list[tuple[str, str, str]]) -> None:
    """The last 4 images: Cy rejects 9 of their 12 pairs, which are on a list of suspicious ones."""
    with Path("conf/reviews/Cy.csv").open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(("image_path", "question", "answer", "decision", "drawn"))
        for number, pair in enumerate(pairs[-12:]):
            writer.writerow([*pair, "reject" if number % 4 else "keep", "suspicious"])


def prepare(folder: Path, *plants: Callable[[list[tuple[str, str, str]]], None]) -> Config:
    """A table of 120 pairs, its reviews, and settings without anything slow."""
    rows = make(folder, IMAGES)
    pairs = [(row["image_path"], q, a) for row in rows for q, a in QUESTIONS.items()]
    with Path("own.csv").open("w", newline="") as out:
        csv.writer(out).writerows([("image_path", "question", "answer"), *pairs])
    for plant in plants:
        plant(pairs)
    config = configure(folder, annotator="file", file="own.csv")
    changes = {
        "verify": config.verify.model_copy(update={"models": ()}),
        "split": config.split.model_copy(update={"group": "image", "test_size": 0.5}),
        "evaluate": config.evaluate.model_copy(update={"resamples": 200}),
    }
    return config.model_copy(update=changes)


def answer(config: Config) -> None:
    """Every model's predictions, right four times in five, and what the report reads beside."""
    table = pd.read_csv("data/vqa.csv", keep_default_na=False)
    rng = np.random.default_rng(0)
    for model in answering_models(config.baselines.models, ranked=True):
        right = rng.random(len(table)) < 0.8
        prediction = table["answer"].where(right, "wrong")
        path = predictions_of(model)
        path.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(
            {"row_id": table.index, "prediction": prediction, "confidence": "", "error": ""}
        ).to_csv(path, index=False)
    Path("reports/training.json").write_text("{}")
    Path("data/funnel.json").write_text("{}")
    Path("data/types.csv").write_text("product_type,clean,balanced\nlamp,8,8\n")


def run_stages(config: Config) -> dict[str, Any]:
    """From the table to the evaluation; returns the ceiling, {} if there is none."""
    generate.run(config)
    verify.run(config)
    split.run(config)
    answer(config)
    evaluate.run(config)
    evaluation = json.loads(Path("reports/evaluation.json").read_text())
    return dict(evaluation.get("ceiling", {}))


@pytest.fixture(autouse=True)
def lexical(monkeypatch: pytest.MonkeyPatch) -> None:
    """No metric that needs a network."""
    names = ("accuracy", "alias_accuracy", "exact_match", "f1")
    monkeypatch.setattr(scoring, "METRIC_NAMES", names)
    monkeypatch.setattr(scoring, "ALL_ROWS_METRICS", ("exact_match", "f1"))


def render_pages(results: Results) -> list[str]:
    """The report in both forms, and the cards."""
    context = report_context(results, [], {}, [])
    cards = render_cards(results, context)
    return [render_html(context), render_markdown(context), *cards.values()]


def test_what_people_found_wrong_is_beside_every_accuracy(here: Path) -> None:
    config = prepare(here, plant_reviews)
    ceiling = run_stages(config)
    assert (ceiling["pairs"], ceiling["images"], ceiling["raters"]) == (60, 20, 2)
    assert ceiling["wrong"]["share"] == 0.2  # 6 rejected, 6 corrected
    test = pd.read_csv("data/test.csv", keep_default_na=False)
    reviewed = int((test["reviewed"] != "").sum())
    assert 0 < reviewed < len(test)
    assert ceiling["accuracy"] == pytest.approx(1 - 0.2 * (1 - reviewed / len(test)), abs=1e-6)

    results = load_results(config)
    assert results.metrics[results.ranking[0]]["accuracy"] > ceiling["accuracy"]
    note = f"at most about {100 * ceiling['accuracy']:.0f}%"
    sentence = f"At most about {100 * ceiling['accuracy']:.1f}% can be right"
    pages = render_pages(results)
    assert all(sentence in page for page in pages)
    assert all("is above it: by chance, or because" in page for page in pages)
    assert all(note in page for page in pages[:3])


def test_suspicious_pairs_take_mistakes_away_and_arent_the_sample(here: Path) -> None:
    """A fifth of 60 random pairs is wrong, so 12 of the other 60 are; people found 9 of these."""
    config = prepare(here, plant_reviews, plant_suspicious_reviews)
    ceiling = run_stages(config)
    assert (ceiling["pairs"], ceiling["raters"], ceiling["wrong"]["share"]) == (60, 2, 0.2)
    assert ceiling["suspicious"] == {"pairs": 12, "left_out": 0, "wrong": 9, "unreviewed": 48}
    assert ceiling["remaining"]["share"] == pytest.approx((0.2 * 60 - 9) / 48)
    test = pd.read_csv("data/test.csv", keep_default_na=False)
    unreviewed = float((test["reviewed"] == "").mean())
    expected = 1 - unreviewed * ceiling["remaining"]["share"]
    assert ceiling["accuracy"] == pytest.approx(expected, abs=1e-6)
    pages = render_pages(load_results(config))
    assert all(
        "so were 9 of 12 suspicious pairs, which leaves about 6.2%" in page for page in pages
    )


def test_suspicious_pairs_alone_are_no_measurement(here: Path) -> None:
    config = prepare(here, plant_suspicious_reviews)
    assert run_stages(config) == {}
    html, markdown, model, data = render_pages(load_results(config))
    reason = "people have reviewed 12 pairs, all of them because they are suspicious"
    assert reason in html
    assert reason in markdown
    assert reason in model
    assert "people have reviewed suspicious pairs. The accuracy ceiling isn't known" in data
