"""Suspicious pairs on pages for people, and a random page that doesn't depend on them."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from abo_vqa.annotate.draws import RANDOM, SUSPICIOUS
from abo_vqa.annotate.reviews import read_reviews
from abo_vqa.cli import main
from abo_vqa.core.errors import UserError
from abo_vqa.core.tables import read_table
from abo_vqa.stages import generate, verify
from tests.support.annotation import configure, make
from tests.support.reviews import page_pairs

HEADER = ("image_path", "question", "answer", "decision", "corrected", "rater", "drawn")
Pair = tuple[str, str, str]


def save(path: Path, rows: Iterable[tuple[str, ...]]) -> None:
    with path.open("w", newline="") as out:
        csv.writer(out).writerows([HEADER, *rows])


@pytest.fixture
def pairs(here: Path) -> list[Pair]:
    """A user's own set of 12 images with two pairs each."""
    rows = make(here, 12)
    pairs = [(row["image_path"], f"What is part {k}?", "wood") for row in rows for k in range(2)]
    with (here / "own.csv").open("w", newline="") as out:
        csv.writer(out).writerows([HEADER[:3], *pairs])
    run(here)
    return pairs


def run(here: Path) -> dict[str, int]:
    """The stages that make the set; returns the counts of reviews."""
    config = configure(here, annotator="file", file="own.csv")
    nobody = config.verify.model_copy(update={"models": ()})
    generate.run(config)
    verify.run(config.model_copy(update={"verify": nobody}))
    return dict(json.loads(Path("data/generate.json").read_text()).get("reviews", {}))


def page(*options: str) -> list[Pair]:
    assert main(["generate", "--review", "page.html", *options]) == 0
    return page_pairs(Path("page.html"))


def test_a_random_page_is_one_of_the_whole_set_as_it_was_written(
    here: Path, pairs: list[Pair], capsys: pytest.CaptureFixture[str]
) -> None:
    """People have rejected, corrected and kept suspicious pairs, and decided about a random one."""
    before = sorted(page("--sample", "8"))
    decisions = (("reject", ""), ("correct", "steel"), ("keep", ""))
    suspicious = [
        (*pairs[2 * i], *decision, "Eve", SUSPICIOUS) for i, decision in enumerate(decisions)
    ]
    save(here / "conf/reviews/eve.csv", suspicious)
    counts = run(here)
    assert (counts["pairs"], counts["random"]) == (3, {"pairs": 0, "raters": 0})
    assert len(read_table("data/vqa.csv")) == 23
    assert sorted(page("--sample", "8")) == before
    assert sorted(page()) == sorted(pairs)
    assert "left out" not in capsys.readouterr().out

    save(here / "conf/reviews/dan.csv", [(*pairs[6], "keep", "", "Dan", RANDOM)])
    counts = run(here)
    assert (counts["pairs"], counts["random"]) == (4, {"pairs": 1, "raters": 1})
    assert sorted(page()) == sorted(pairs[:6] + pairs[8:])
    assert "1 images that people have reviewed are left out" in capsys.readouterr().out
    reviewed = read_table("data/reviewed.csv")
    assert reviewed["drawn"].tolist() == [*[SUSPICIOUS] * 3, RANDOM]
    record = json.loads(Path("data/verification.json").read_text())["reviews"]
    assert record == {
        "pairs": 1, "left_out": 0, "skipped": 1,
        "images": [{"pairs": 1, "wrong": 0.0, "images": 1}],
        "suspicious": {"pairs": 3, "left_out": 0, "wrong": 2.0, "unreviewed": 20},
    }  # fmt: skip

    # A page of suspicious pairs leaves out whatever was reviewed.
    lines = [f"{','.join(pair)},{SUSPICIOUS}" for pair in pairs]
    (here / "list.csv").write_text("\n".join(["image_path,question,answer,drawn", *lines]))
    assert sorted(page("--vqa", "list.csv")) == sorted(pairs[8:])
    assert "4 images that people have reviewed are left out" in capsys.readouterr().out


def test_how_a_pair_was_drawn(tmp_path: Path) -> None:
    """A pair that was drawn in both ways, or nobody knows how, was drawn at random."""
    pair = ("a.jpg", "What?", "x")
    ways = {"b": ("random", " Suspicious "), "c": ("suspicious", "suspicious"), "d": ("", "RANDOM")}
    for i, rater in enumerate(("Ann", "Bo")):
        rows = [(f"{name}.jpg", *pair[1:], "keep", "", rater, d[i]) for name, d in ways.items()]
        save(tmp_path / f"{rater}.csv", rows)
    reviews = read_reviews(sorted(tmp_path.glob("*.csv")))
    assert reviews.suspicious == {("c.jpg", "what?", "x")}
    assert reviews.images_left_out(RANDOM) == {"b.jpg", "d.jpg"}
    assert reviews.images_left_out(SUSPICIOUS) == {"b.jpg", "c.jpg", "d.jpg"}


def test_one_rater_decides_about_a_pair_on_two_pages(tmp_path: Path) -> None:
    """The same twice is one decision, however it is spelled; two different ones are an error."""
    pair = ("a.jpg", "How many?", "4")
    save(tmp_path / "a.csv", [(*pair, "correct", "2", "Ann", SUSPICIOUS)])
    save(tmp_path / "b.csv", [(*pair, "correct", "two", "Ann", RANDOM)])
    reviews = read_reviews(sorted(tmp_path.glob("*.csv")))
    assert [len(votes) for votes in reviews.judgements.values()] == [1]
    assert not reviews.suspicious
    save(tmp_path / "b.csv", [(*pair, "keep", "", "Ann", RANDOM)])
    with pytest.raises(UserError, match="Keep one of the two decisions"):
        read_reviews(sorted(tmp_path.glob("*.csv")))


def test_any_other_draw_is_refused(
    here: Path, pairs: list[Pair], capsys: pytest.CaptureFixture[str]
) -> None:
    save(here / "a.csv", [(*pairs[0], "keep", "", "Ann", "yes")])
    message = "drawn must be random or suspicious, found 'yes'. An empty cell counts as random."
    assert main(["agreement", "a.csv"]) == 2
    assert f"a.csv, row 1 ('What is part 0?'): {message}" in capsys.readouterr().err
    assert main(["generate", "--review", "page.html", "--vqa", "a.csv"]) == 2
    assert f"a.csv, line 2: {message}" in capsys.readouterr().err
    assert not (here / "page.html").exists()
