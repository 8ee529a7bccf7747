"""A random page stays one of the whole set, whatever the filters of the stage `verify` keep."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from abo_vqa.annotate.verification.asked import asked_rows
from abo_vqa.annotate.verification.opinion_table import opinion_table
from abo_vqa.cli import main
from abo_vqa.core.config import Config
from abo_vqa.core.json_files import read_json
from abo_vqa.core.tables import read_table, write_table
from abo_vqa.evaluation.ceiling import label_noise_ceiling
from abo_vqa.reporting.ceiling import ceiling_sentence
from abo_vqa.stages import generate, verify
from tests.support.annotation import configure, make
from tests.support.reviews import page_pairs

IMAGES, QUESTIONS = 60, 3
HEADER = ("image_path", "question", "answer")
Pair = tuple[str, str, str]


@pytest.fixture
def config(here: Path) -> Config:
    """A set in which every fifth answer is wrong, and what a perfect verifier says to it."""
    images = [row["image_path"] for row in make(here, IMAGES)]
    pairs = [
        (image, f"What is part {k}?", "wood" if (QUESTIONS * i + k) % 5 else "wrong")
        for i, image in enumerate(images)
        for k in range(QUESTIONS)
    ]
    with (here / "own.csv").open("w", newline="") as out:
        csv.writer(out).writerows([HEADER, *pairs])
    return configure(here, annotator="file", file="own.csv")


def run(config: Config, min_agreement: float | None) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The stages that make the set; returns its rows, and the ceiling if all are test rows."""
    generate.run(config)
    asked = asked_rows(read_table("data/generated.csv"), read_table("data/reviewed.csv"))
    answers = pd.DataFrame({"prediction": ["wood"] * len(asked), "error": ""})
    write_table(opinion_table({"blip": answers}), Path("data/opinions.csv"))
    filters = {"models": ("blip",), "min_agreement": min_agreement, "blind_share": None}
    verify.run(config.model_copy(update={"verify": config.verify.model_copy(update=filters)}))
    kept, record = read_table("data/vqa.csv"), read_json("data/verification.json")
    return kept, label_noise_ceiling({"raters": 1, **record.get("reviews", {})}, kept, 0.95)


def page(*options: str) -> list[Pair]:
    assert main(["generate", "--review", "page.html", "--sample", "90", *options]) == 0
    return page_pairs(Path("page.html"))


def save(pairs: Sequence[Pair]) -> None:
    with Path("conf/reviews/ann.csv").open("w", newline="") as out:
        rows = [(*pair, "reject" if pair[2] == "wrong" else "keep", "random") for pair in pairs]
        csv.writer(out).writerows([(*HEADER, "decision", "drawn"), *rows])


def covers(ceiling: dict[str, Any], kept: pd.DataFrame) -> bool:
    return bool(ceiling["low"] <= (kept["answer"] == "wood").mean() <= ceiling["high"])


@pytest.mark.parametrize("table", ["data/generated.csv", "data/vqa.csv"])
def test_a_page_that_was_drawn_before_a_filter_is_loosened(
    config: Config, table: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kept, _ = run(config, 0.5)
    assert set(kept["answer"]) == {"wood"}
    pairs = page("--vqa", table)
    assert "drawn from all 180 pairs" in capsys.readouterr().out
    assert sum(pair[2] == "wrong" for pair in pairs) == pytest.approx(18, abs=6)
    save(pairs)
    strict, ceiling = run(config, 0.5)
    assert ceiling["accuracy"] == 1
    assert covers(ceiling, strict)
    loose, ceiling = run(config, None)
    assert len(loose) > len(strict)
    assert ceiling["accuracy"] < 0.95
    assert covers(ceiling, loose)
    assert "skipped" not in ceiling


def test_a_page_of_a_former_version_had_only_what_its_filter_kept(config: Config) -> None:
    """The same or stricter filters change nothing; the report says what looser ones may hide."""
    run(config, 0.5)
    drawn = page()
    pairs = [pair for pair in drawn if pair[2] != "wrong"]
    save(pairs)
    _, ceiling = run(config, 0.5)
    assert "skipped" not in ceiling
    _, ceiling = run(config, None)
    assert ceiling["skipped"] == len(drawn) - len(pairs)
    assert f"{ceiling['skipped']} pairs of the same images have no decision" in ceiling_sentence(
        ceiling
    )


def test_a_part_of_the_set_stays_what_it_is(
    config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    kept, _ = run(config, 0.5)
    write_table(kept.head(60), Path("data/test.csv"))
    assert set(page("--vqa", "data/test.csv")) <= set(
        kept[list(HEADER)].itertuples(index=False, name=None)
    )
    assert "warning: data/test.csv has only pairs that the filters in use keep" in (
        capsys.readouterr().out
    )
    run(config, None)
    page("--vqa", "data/test.csv")
    page()
    assert "filters" not in capsys.readouterr().out
