"""The page for people, in a real Chromium: what they decide there is what the pipeline does."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from abo_vqa.annotate.review import write_review_pages
from abo_vqa.annotate.review_sample import ReviewPlan
from abo_vqa.annotate.reviews import Reviews, read_reviews
from abo_vqa.cli import main
from abo_vqa.core.config import load_config
from abo_vqa.reporting.pdf import find_browser
from abo_vqa.stages.generate import run
from tests.support.annotation import configure, make, vqa
from tests.support.chrome import Page, chromium

BROWSER = find_browser()
ODD = 'Is it a "lamp", or </script><b>none</b>?'  # CSV's, JSON's and HTML's own characters
PAIRS = ((ODD, "None"), ("What color is it, näher betrachtet?", "red"), ("How many?", "2"))


@pytest.fixture
def reviewed(here: Path) -> list[tuple[str, str, str]]:
    """A set of nine pairs and its page; returns the pairs in the page's order."""
    rows = make(here, 3)
    with (here / "own.csv").open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(["image_path", "question", "answer"])
        writer.writerows([row["image_path"], *pair] for row in rows for pair in PAIRS)
    run(configure(here, annotator="file", file="own.csv"))
    assert main(["generate", "--review", "page.html"]) == 0
    text = (here / "page.html").read_text(encoding="utf-8")
    paths = sorted(
        (row["image_path"] for row in rows), key=lambda path: text.index(f'alt="{path}"')
    )
    return [(path, *pair) for path in paths for pair in PAIRS]


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    assert BROWSER is not None
    with chromium(BROWSER) as tab:
        # No network at all: what isn't in the file can't come.
        tab.send("Network.emulateNetworkConditions", offline=True, latency=0,
                 downloadThroughput=0, uploadThroughput=0)  # fmt: skip
        yield tab


def click(page: Page, selector: str) -> None:
    """A real click in the middle of an element."""
    x, y = page.run(
        f"(() => {{ const e = document.querySelector({selector!r}); e.scrollIntoView("
        "{block: 'center'}); const r = e.getBoundingClientRect();"
        " return [r.x + r.width / 2, r.y + r.height / 2]; })()"
    )
    for kind in ("mousePressed", "mouseReleased"):
        page.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)


def decisions(page: Page) -> list[str]:
    return list(page.run("[...document.querySelectorAll('li')].map(e => e.dataset.decision)"))


def saved(page: Page, folder: Path, rater: str) -> Path:
    """Press the button and wait for the file."""
    folder.mkdir(exist_ok=True)
    page.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    click(page, "#save")
    for _ in range(100):
        if files := list(folder.glob(f"review-{rater}-*.csv")):
            return files[0]
        time.sleep(0.05)
    raise AssertionError("no file came within 5 s")


def write(page: Page, selector: str, text: str) -> None:
    """Replace what is in a field, and leave it."""
    click(page, selector)
    page.press("Control+A")
    page.tab.keyboard.insert_text(text)
    page.press("Tab")


PROBLEM_6 = "document.querySelector('#pair-6 .problem').textContent"


def problem_with(page: Page, text: str) -> str:
    """What the page says of a correction of pair 6, whose field has the focus."""
    page.press("Control+A")
    page.tab.keyboard.insert_text(text)
    page.press("Enter")
    return str(page.run(PROBLEM_6))


@pytest.mark.skipif(BROWSER is None, reason="no Chromium installed (nor BROWSER_PATH set)")
def test_what_people_reject_leaves_the_set(
    reviewed: list[tuple[str, str, str]], browser: Page, here: Path
) -> None:
    browser.size(1200, 900)
    browser.open((here / "page.html").as_uri())
    images = "[...document.images].every(i => i.complete && i.naturalWidth > 0)"
    assert browser.run(f"document.images.length === 3 && {images}")
    asked = browser.run("[...document.querySelectorAll('li p')].map(e => e.textContent)")
    assert asked == [f"{question} {answer}" for _, question, answer in reviewed]
    # By mouse: reject, keep, and one taken back.
    click(browser, "#pair-0 button[value=reject]")
    click(browser, "#pair-1 button[value=keep]")
    click(browser, "#pair-2 button[value=reject]")
    click(browser, "#pair-2 button[value=reject]")
    # By keyboard, from the pair clicked last on; a correction has to be one word.
    for key in ("ArrowDown", "k", "x", "x", "c", *"dark grey", "Enter"):
        browser.press(key)
    assert browser.run(PROBLEM_6) == "The answer must be one word."
    assert "Reject a question" in problem_with(browser, "Unknown.")
    assert "the answer already" in problem_with(browser, "none!")
    for key in ("Control+A", *"grey", "Enter", "k"):
        browser.press(key)
    expected = ["reject", "keep", "", "keep", "reject", "reject", "correct", "keep", ""]
    assert decisions(browser) == expected
    assert browser.run("document.getElementById('done').textContent") == (
        "7 of 9 checked, 3 rejected, 1 corrected"
    )
    click(browser, "#save")  # not without a name
    assert "name" in browser.run("document.querySelector('header .problem').textContent")
    write(browser, "#rater", "Anna  B.")
    browser.open((here / "page.html").as_uri())  # closed and opened again
    assert decisions(browser) == expected
    anna = saved(browser, here / "conf/reviews", "anna-b-")
    with anna.open(newline="", encoding="utf-8") as handle:
        rows = [tuple(row.values()) for row in csv.DictReader(handle)]
    corrected = ["grey" if decision == "correct" else "" for decision in expected]
    assert rows == [
        (*pair, decision, answer, "Anna B.", "random")
        for pair, decision, answer in zip(reviewed, expected, corrected, strict=True)
    ]
    # Another rater in the same browser starts afresh, and finds own decisions again.
    write(browser, "#rater", "Bo")
    assert decisions(browser) == [""] * 9
    click(browser, "#pair-0 button[value=reject]")
    write(browser, "#rater", "Anna B.")
    assert decisions(browser) == expected
    assert browser.problems == []
    assert [u for u in browser.requests if not u.startswith(("file:", "data:", "blob:"))] == []

    run(configure(here, annotator="file", file="own.csv"))
    states = {(row["image_path"], row["question"]): row for row in vqa(here)}
    assert len(states) == 6
    for pair, decision in zip(reviewed, expected, strict=True):
        row = states.get(pair[:2], {"answer": "", "reviewed": "rejected"})
        state = {"correct": "corrected", "reject": "rejected"}.get(decision, decision)
        assert row["reviewed"] == state
        assert row["answer"] == {"": pair[2], "keep": pair[2], "corrected": "grey"}.get(state, "")
    assert (here / "data/rejects.csv").read_text().count(",review\n") == 3


def test_the_page_needs_nothing_else(reviewed: list[tuple[str, str, str]], here: Path) -> None:
    """What can be told without a browser: images inside, no address, nothing unescaped."""
    text = (here / "page.html").read_text(encoding="utf-8")
    assert text.count("data:image/jpeg;base64,") == 3
    assert "://" not in text
    assert text.count("</script>") == 2  # the data, the program
    assert "<b>none</b>" not in text


def test_images_are_upright_and_one_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "images/small/00"
    for part in ("listings/metadata", "images/metadata", "images/small/00"):
        (tmp_path / part).mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 30), (200, 0, 0)).save(folder / "a.jpg", exif=exif)
    (folder / "b.jpg").write_bytes(b"nothing")
    rows = "00/a.jpg,what?,red\n00/b.jpg,what?,red\n"
    (tmp_path / "vqa.csv").write_text(f"image_path,question,answer\n{rows}")
    config = load_config()
    there = config.model_copy(update={"data": config.data.model_copy(update={"raw": tmp_path})})
    page = tmp_path / "page.html"
    written = write_review_pages(tmp_path / "vqa.csv", there, ReviewPlan(9), page, Reviews())
    assert (written.pairs, written.left_out) == ({page: 2}, 0)
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    (shown,) = re.findall('data:image/jpeg;base64,([^"]+)', text)
    image = Image.open(io.BytesIO(base64.b64decode(shown)))
    assert (image.size, image.getexif().get(0x0112)) == ((30, 20), None)
    assert "00/b.jpg can&#39;t be read" in text or "00/b.jpg can't be read" in text


@pytest.mark.skipif(BROWSER is None, reason="no Chromium installed (nor BROWSER_PATH set)")
def test_three_raters_disagree(
    browser: Page, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pages for three, half of them common: what they save comes to a verdict and to agreement."""
    rows = make(here, 12)
    with (here / "own.csv").open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(["image_path", "question", "answer"])
        writer.writerows([row["image_path"], "What color is it?", "red"] for row in rows)
    run(configure(here, annotator="file", file="own.csv"))
    options = ["--raters", "3", "--overlap", "0.5", "--sample", "6"]
    assert main(["generate", "--review", "page.html", *options]) == 0
    # The first three pairs are on all pages; the last one is skipped by everybody.
    raters = {"Ann": "kkxkk", "Bo": "kxxkx", "Cy": "kcxxk"}
    for number, (rater, keys) in enumerate(raters.items(), start=1):
        browser.open((here / f"page-{number}.html").as_uri())
        write(browser, "#rater", rater)
        click(browser, "#pair-0 button[value=keep]")
        browser.press("ArrowDown")
        for key in keys[1:]:
            for stroke in (key, *(("p", "i", "n", "k", "Enter") if key == "c" else ())):
                browser.press(stroke)
        saved(browser, here / "conf/reviews", rater.lower())
    write(browser, "#rater", "Dee")
    complaint = "document.querySelector('header .problem').textContent"
    assert browser.run(complaint) == "Cy: 5 decisions stay under that name."
    assert browser.problems == []
    assert main(["agreement"]) == 0
    out_text = capsys.readouterr().out
    assert "9 pairs of 9 images, 3 rater(s): Ann, Bo, Cy" in out_text
    assert "3 pairs have several raters" in out_text
    run(configure(here, annotator="file", file="own.csv"))
    counts = json.loads((here / "data/generate.json").read_text())["reviews"]
    # Of the common ones: kept by all, of three minds (rejected), rejected by all.
    assert (counts["pairs"], counts["raters"], counts["corrected"]) == (9, 3, 0)
    assert counts["rejected"] == 4


@pytest.mark.skipif(BROWSER is None, reason="no Chromium installed (nor BROWSER_PATH set)")
def test_a_page_of_suspicious_pairs_says_so_in_what_it_saves(browser: Page, here: Path) -> None:
    """A pair without an entry in the column was drawn at random, as all were before it."""
    path = make(here, 1)[0]["image_path"]
    questions = {"What color is it?": "suspicious", "What is it?": ""}
    lines = [f"{path},{question},red,{drawn}" for question, drawn in questions.items()]
    (here / "list.csv").write_text("\n".join(["image_path,question,answer,drawn", *lines]))
    assert main(["generate", "--review", "page.html", "--vqa", "list.csv"]) == 0
    browser.open((here / "page.html").as_uri())
    write(browser, "#rater", "Eve")
    for number in (0, 1):
        click(browser, f"#pair-{number} button[value=reject]")
    reviews = read_reviews([saved(browser, here / "conf/reviews", "eve")])
    assert browser.problems == []
    assert len(reviews.judgements) == 2
    assert reviews.suspicious == {(path, "what color is it?", "red")}
